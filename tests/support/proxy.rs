//! A proxy on the wire between sqlx and PostgreSQL.
