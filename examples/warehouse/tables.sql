CREATE TABLE IF NOT EXISTS products (
    sku text CONSTRAINT one_product_a_sku PRIMARY KEY,
    name text NOT NULL,
    reorder_point int NOT NULL CHECK (reorder_point >= 0),
    on_hand bigint NOT NULL DEFAULT 0 CONSTRAINT never_below_zero CHECK (on_hand >= 0),
    written_by text NOT NULL);

CREATE TABLE IF NOT EXISTS moves (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text NOT NULL REFERENCES products,
    quantity int NOT NULL CHECK (quantity <> 0),
    reference text NOT NULL CONSTRAINT one_move_a_reference UNIQUE,
    written_by text NOT NULL);
CREATE INDEX IF NOT EXISTS moves_by_product ON moves (sku, id);

CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sku text NOT NULL REFERENCES products,
    quantity int NOT NULL CHECK (quantity > 0),
    received_at timestamptz,
    written_by text NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_order ON orders (sku) WHERE received_at IS NULL;
