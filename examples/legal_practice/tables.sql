-- The tables of the practice, made by their owner. `database.rs` then puts each under row level
-- security, which also fills `tenant_id`. Every key begins with the tenant, so that neither a
-- reference nor a conflict ever looks at the rows of another organisation.

CREATE TABLE IF NOT EXISTS cases (
    tenant_id text NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    title text NOT NULL CONSTRAINT a_title_is_short CHECK (length(title) BETWEEN 1 AND 200),
    client text NOT NULL CONSTRAINT a_client_is_short CHECK (length(client) BETWEEN 1 AND 200),
    closed boolean NOT NULL DEFAULT false,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT one_case_a_title UNIQUE (tenant_id, client, title));
CREATE INDEX IF NOT EXISTS cases_by_title ON cases (tenant_id, title, id);

CREATE TABLE IF NOT EXISTS invoices (
    tenant_id text NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    number text NOT NULL,
    case_id uuid NOT NULL,
    amount bigint NOT NULL CONSTRAINT an_invoice_asks_for_something CHECK (amount > 0),
    paid bigint NOT NULL DEFAULT 0,
    issued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT one_invoice_a_number UNIQUE (tenant_id, number),
    CONSTRAINT an_invoice_belongs_to_a_case
        FOREIGN KEY (tenant_id, case_id) REFERENCES cases (tenant_id, id),
    CONSTRAINT paid_at_most_once CHECK (paid BETWEEN 0 AND amount));
CREATE INDEX IF NOT EXISTS invoices_by_case ON invoices (tenant_id, case_id);

CREATE TABLE IF NOT EXISTS payments (
    tenant_id text NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    invoice_id uuid NOT NULL,
    amount bigint NOT NULL CONSTRAINT a_payment_is_something CHECK (amount > 0),
    reference text NOT NULL CONSTRAINT a_reference_is_short CHECK (length(reference) BETWEEN 1 AND 100),
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT one_payment_a_reference UNIQUE (tenant_id, reference),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoices (tenant_id, id));
CREATE INDEX IF NOT EXISTS payments_by_invoice ON payments (tenant_id, invoice_id);

-- Double entry: what an invoice or a payment does to the accounts. Amounts are cents; a debit is
-- above zero, a credit below, and the postings of an entry add up to nothing.

CREATE TABLE IF NOT EXISTS journal_entries (
    tenant_id text NOT NULL,
    id uuid NOT NULL,
    what text NOT NULL CHECK (what IN ('invoice', 'payment')),
    booked_by xid8 NOT NULL DEFAULT pg_current_xact_id(),
    booked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id));

CREATE TABLE IF NOT EXISTS postings (
    tenant_id text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    entry_id uuid NOT NULL,
    account text NOT NULL CHECK (account IN ('bank', 'fees', 'receivables')),
    amount bigint NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, entry_id) REFERENCES journal_entries (tenant_id, id));
CREATE INDEX IF NOT EXISTS postings_by_entry ON postings (tenant_id, entry_id);

-- Whatever an INSERT says: the check below depends on it.
CREATE OR REPLACE FUNCTION entry_is_of_this_transaction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.booked_by := pg_current_xact_id();
    RETURN NEW;
END $$;

-- At COMMIT, when all of an entry is there.
CREATE OR REPLACE FUNCTION entry_must_balance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    entry uuid;
    balance numeric;
    count bigint;
BEGIN
    IF TG_TABLE_NAME = 'postings' THEN
        entry := NEW.entry_id;
    ELSE
        entry := NEW.id;
    END IF;
    SELECT coalesce(sum(p.amount), 0), count(*) INTO balance, count
        FROM postings AS p WHERE p.tenant_id = NEW.tenant_id AND p.entry_id = entry;
    IF balance <> 0 OR count < 2 THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'an_entry_balances',
            MESSAGE = 'the postings of a journal entry must add up to nothing';
    END IF;
    RETURN NULL;
END $$;

-- A posting goes with the transaction that made its entry; nothing is added to the past.
CREATE OR REPLACE FUNCTION posting_must_be_in_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM journal_entries AS e WHERE e.tenant_id = NEW.tenant_id
                   AND e.id = NEW.entry_id AND e.booked_by = pg_current_xact_id()) THEN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', CONSTRAINT = 'an_entry_is_closed',
            MESSAGE = 'a posting belongs to an entry of the same transaction';
    END IF;
    RETURN NULL;
END $$;

-- The role of the service may not anyway; this is for the owner of the tables.
CREATE OR REPLACE FUNCTION the_journal_is_for_ever() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', CONSTRAINT = 'the_journal_is_for_ever',
        MESSAGE = 'what is booked is corrected by another entry';
END $$;

DROP TRIGGER IF EXISTS of_this_transaction ON journal_entries;
CREATE TRIGGER of_this_transaction BEFORE INSERT ON journal_entries
    FOR EACH ROW EXECUTE FUNCTION entry_is_of_this_transaction();
DROP TRIGGER IF EXISTS balance ON journal_entries;
CREATE CONSTRAINT TRIGGER balance AFTER INSERT ON journal_entries DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION entry_must_balance();
DROP TRIGGER IF EXISTS balance ON postings;
CREATE CONSTRAINT TRIGGER balance AFTER INSERT ON postings DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION entry_must_balance();
DROP TRIGGER IF EXISTS in_time ON postings;
CREATE TRIGGER in_time AFTER INSERT ON postings
    FOR EACH ROW EXECUTE FUNCTION posting_must_be_in_time();
DROP TRIGGER IF EXISTS for_ever ON journal_entries;
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON journal_entries
    FOR EACH STATEMENT EXECUTE FUNCTION the_journal_is_for_ever();
DROP TRIGGER IF EXISTS for_ever ON postings;
CREATE TRIGGER for_ever BEFORE UPDATE OR DELETE OR TRUNCATE ON postings
    FOR EACH STATEMENT EXECUTE FUNCTION the_journal_is_for_ever();
