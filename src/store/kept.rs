//! What has to outlive the process and belongs to no call.

use super::{Store, StoreError, database};

impl Store {
    /// Keeps a value under a name, in place of the one before. It survives the death of this process.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
        let mut connection = self.quick().await?;
        let kept = sqlx::query(sql).bind(name).bind(value).execute(&mut *connection).await;
        kept.map(|_| ()).map_err(database("keep a value"))
    }

    /// The value that was kept under a name last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept(&self, name: &str) -> Result<Option<String>, StoreError> {
        let found = sqlx::query_scalar("SELECT value FROM kept WHERE name = ?").bind(name);
        found.fetch_optional(&self.readers).await.map_err(database("read a kept value"))
    }
}
