struct Notes;

impl Notes {
    async fn count(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM notes")
            .fetch_one()
            .await
    }
}

fn main() {}
