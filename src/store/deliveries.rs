//! Telling endpoints: one row for each event and endpoint, claimed with a lease.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, database, limit};
use crate::model::{CallId, Pii};

/// A delivery that is ours until its lease is over.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    seq: i64,
    fence: i64,
    /// The event's id: the same at every attempt and for every endpoint.
    pub event: String,
    /// Whom to tell.
    pub endpoint: String,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    /// The body as it must be sent and signed.
    pub body: Pii<String>,
    /// When the event was written.
    pub created_unix_ms: i64,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Waiting for its time, or under way.
    Pending,
    /// The endpoint took it.
    Delivered,
    /// Given up; it can be replayed.
    Dead,
}

/// One delivery, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// The event's id.
    pub event: String,
    /// What kind of event.
    pub kind: String,
    /// Whom it is for.
    pub endpoint: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// How the last attempt ended, in `snake_case`.
    pub last: Option<String>,
    /// When the event was written.
    pub created_unix_ms: i64,
    /// When it was taken or given up.
    pub ended_unix_ms: Option<i64>,
}

impl Store {
    /// Takes up to `most` deliveries that are due for an endpoint, oldest first. Nobody else gets them before
    /// `lease_until`, and whoever held them before can no longer report on them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_deliveries(
        &self,
        endpoint: &str,
        now_unix_ms: i64,
        lease_until_unix_ms: i64,
        most: usize,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let failed = database("claim deliveries");
        let sql = "UPDATE deliveries SET lease_ms = ?1, fence = fence + 1, attempts = attempts + 1
                   WHERE seq IN (SELECT seq FROM (
                                     SELECT seq, lease_ms AS at FROM deliveries
                                     WHERE endpoint = ?2 AND state = 'pending' AND lease_ms IS NOT NULL
                                           AND lease_ms <= ?3
                                     UNION ALL
                                     SELECT * FROM (SELECT seq, due_ms AS at FROM deliveries
                                                    WHERE endpoint = ?2 AND state = 'pending' AND lease_ms IS NULL
                                                          AND due_ms <= ?3
                                                    ORDER BY due_ms LIMIT ?4))
                                 ORDER BY at, seq LIMIT ?4)
                   RETURNING seq, fence, event, endpoint, attempts,
                             (SELECT body FROM events WHERE id = event) AS body,
                             (SELECT created_ms FROM events WHERE id = event) AS created_ms";
        let mut connection = self.quick().await?;
        let rows = sqlx::query(sql)
            .bind(lease_until_unix_ms)
            .bind(endpoint)
            .bind(now_unix_ms)
            .bind(limit(most))
            .fetch_all(&mut *connection)
            .await
            .map_err(&failed)?;
        let mut claimed = rows.iter().map(claimed).collect::<Result<Vec<_>, _>>().map_err(&failed)?;
        claimed.sort_by_key(|delivery| delivery.seq);
        Ok(claimed)
    }

    /// When the next delivery for an endpoint can be claimed; `None` when none is waiting.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_delivery(&self, endpoint: &str) -> Result<Option<i64>, StoreError> {
        // Two looks at an index each, whatever waits: what nobody holds, and what somebody may lose.
        let sql = "SELECT min(at) FROM (
                       SELECT min(due_ms) AS at FROM deliveries
                       WHERE endpoint = ?1 AND state = 'pending' AND lease_ms IS NULL
                       UNION ALL
                       SELECT min(lease_ms) FROM deliveries
                       WHERE endpoint = ?1 AND state = 'pending' AND lease_ms IS NOT NULL)";
        sqlx::query_scalar(sql)
            .bind(endpoint)
            .fetch_one(&self.readers)
            .await
            .map_err(database("look for the next delivery"))
    }

    /// The endpoint took it. `false` when the claim was lost meanwhile; then somebody else reports on it.
    ///
    /// # Errors
    /// When the database fails; it will be sent again, with the same id.
    pub async fn delivered(&self, claim: &ClaimedDelivery, now_unix_ms: i64) -> Result<bool, StoreError> {
        self.end_delivery(claim, now_unix_ms, "delivered", "delivered").await
    }

    /// Gives it up, with the reason in `snake_case`. `false` when the claim was lost meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bury_delivery(
        &self,
        claim: &ClaimedDelivery,
        now_unix_ms: i64,
        reason: &str,
    ) -> Result<bool, StoreError> {
        self.end_delivery(claim, now_unix_ms, "dead", reason).await
    }

    /// Gives it back for another attempt at `due_unix_ms`, with the reason in `snake_case`. `false` when the claim was
    /// lost meanwhile.
    ///
    /// # Errors
    /// When the database fails; it becomes due when its lease is over.
    pub async fn postpone_delivery(
        &self,
        claim: &ClaimedDelivery,
        due_unix_ms: i64,
        reason: &str,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET lease_ms = NULL, due_ms = ?, last = ?
                   WHERE seq = ? AND fence = ? AND state = 'pending'";
        let mut connection = self.quick().await?;
        let done = sqlx::query(sql)
            .bind(due_unix_ms)
            .bind(reason)
            .bind(claim.seq)
            .bind(claim.fence)
            .execute(&mut *connection)
            .await
            .map_err(database("postpone a delivery"))?;
        Ok(done.rows_affected() == 1)
    }

    /// The endpoint asked not to be called again at the address with this digest. Whatever waits for it is given up,
    /// as is whatever comes, until [`Store::open_endpoint`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close_endpoint(&self, endpoint: &str, digest: &str, now_unix_ms: i64) -> Result<(), StoreError> {
        let failed = database("close an endpoint");
        let mut connection = self.quick().await?;
        let mut transaction = super::begin(&mut connection).await.map_err(&failed)?;
        let sql = "INSERT INTO closed_endpoints (id, digest, closed_ms) VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET digest = ?2, closed_ms = ?3";
        sqlx::query(sql)
            .bind(endpoint)
            .bind(digest)
            .bind(now_unix_ms)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let sql = "UPDATE deliveries SET state = 'dead', ended_ms = ?, last = 'endpoint_closed', lease_ms = NULL,
                          fence = fence + 1
                   WHERE endpoint = ? AND state = 'pending'";
        sqlx::query(sql).bind(now_unix_ms).bind(endpoint).execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// Lets an endpoint be called again when it was closed at another address than the one with this digest, which
    /// is what correcting its address means. Returns whether it may be called.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_endpoint(&self, endpoint: &str, digest: &str) -> Result<bool, StoreError> {
        let failed = database("open an endpoint");
        let mut connection = self.quick().await?;
        let sql = "DELETE FROM closed_endpoints WHERE id = ? AND digest <> ?";
        sqlx::query(sql).bind(endpoint).bind(digest).execute(&mut *connection).await.map_err(&failed)?;
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM closed_endpoints WHERE id = ?)";
        sqlx::query_scalar(sql).bind(endpoint).fetch_one(&mut *connection).await.map_err(&failed)
    }

    /// Sends an event again to every endpoint that gave it up or took it, from the first attempt on, with the same id.
    /// Returns to how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replay(&self, event: &str, now_unix_ms: i64) -> Result<u64, StoreError> {
        let sql = "UPDATE deliveries SET state = 'pending', attempts = 0, due_ms = ?, lease_ms = NULL, ended_ms = NULL,
                          fence = fence + 1
                   WHERE event = ? AND state <> 'pending'";
        let mut connection = self.quick().await?;
        let done = sqlx::query(sql)
            .bind(now_unix_ms)
            .bind(event)
            .execute(&mut *connection)
            .await
            .map_err(database("replay an event"))?;
        Ok(done.rows_affected())
    }

    /// Every delivery of a call's events, in the order they were written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries(&self, call: CallId) -> Result<Vec<DeliveryRecord>, StoreError> {
        let failed = database("read deliveries");
        let sql = "SELECT event, kind, endpoint, state, attempts, last, created_ms, deliveries.ended_ms
                   FROM deliveries JOIN events ON events.id = event WHERE call = ? ORDER BY deliveries.seq";
        let rows = sqlx::query(sql).bind(call.to_string()).fetch_all(&self.readers).await.map_err(&failed)?;
        rows.iter().map(record).collect::<Result<_, _>>().map_err(&failed)
    }

    // Nobody else has the store open, so whoever held a claim is gone.
    pub(super) async fn free_claims(&self) -> Result<(), StoreError> {
        let failed = database("free what an earlier process held");
        let mut connection = self.quick().await?;
        for sql in [
            "UPDATE deliveries SET lease_ms = NULL, fence = fence + 1 WHERE state = 'pending' AND lease_ms IS NOT NULL",
            "UPDATE jobs SET lease_ms = NULL, fence = fence + 1, lost = lost + 1
             WHERE state = 'pending' AND lease_ms IS NOT NULL",
        ] {
            sqlx::query(sql).execute(&mut *connection).await.map_err(&failed)?;
        }
        Ok(())
    }

    async fn end_delivery(
        &self,
        claim: &ClaimedDelivery,
        now_unix_ms: i64,
        state: &str,
        last: &str,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE deliveries SET state = ?, ended_ms = ?, last = ?, lease_ms = NULL
                   WHERE seq = ? AND fence = ? AND state = 'pending'";
        let mut connection = self.quick().await?;
        let done = sqlx::query(sql)
            .bind(state)
            .bind(now_unix_ms)
            .bind(last)
            .bind(claim.seq)
            .bind(claim.fence)
            .execute(&mut *connection)
            .await
            .map_err(database("write the end of a delivery"))?;
        Ok(done.rows_affected() == 1)
    }
}

fn claimed(row: &SqliteRow) -> Result<ClaimedDelivery, sqlx::Error> {
    Ok(ClaimedDelivery {
        seq: row.try_get("seq")?,
        fence: row.try_get("fence")?,
        event: row.try_get("event")?,
        endpoint: row.try_get("endpoint")?,
        attempt: row.try_get("attempts")?,
        body: Pii::new(row.try_get("body")?),
        created_unix_ms: row.try_get("created_ms")?,
    })
}

fn record(row: &SqliteRow) -> Result<DeliveryRecord, sqlx::Error> {
    let state = match row.try_get("state")? {
        "delivered" => DeliveryState::Delivered,
        "dead" => DeliveryState::Dead,
        _ => DeliveryState::Pending,
    };
    Ok(DeliveryRecord {
        event: row.try_get("event")?,
        kind: row.try_get("kind")?,
        endpoint: row.try_get("endpoint")?,
        state,
        attempts: row.try_get("attempts")?,
        last: row.try_get("last")?,
        created_unix_ms: row.try_get("created_ms")?,
        ended_unix_ms: row.try_get("ended_ms")?,
    })
}
