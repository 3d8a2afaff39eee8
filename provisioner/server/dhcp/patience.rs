//! A lease journal that answers in time or is taken for broken: a hung database must not hang DHCP with it.

use super::{JournalError, LeaseJournal, LeaseRecord};
use std::time::Duration;

/// Clients ask again after four seconds at first (RFC 2131 §4.1); an answer later than that is to nobody.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(3);

/// `J` with a limit. A commit that is given up may still happen: then an address is kept for who was not answered, and
/// who asks again gets it.
#[derive(Debug)]
pub struct Patient<J> {
    journal: J,
    limit: Duration,
}

impl<J> Patient<J> {
    /// With [`COMMIT_LIMIT`].
    pub fn new(journal: J) -> Self {
        Self { journal, limit: COMMIT_LIMIT }
    }
}

impl<J: LeaseJournal> LeaseJournal for Patient<J> {
    async fn commit(&self, records: &[LeaseRecord]) -> Result<(), JournalError> {
        let late = |_| JournalError(format!("the database has not answered in {:?}", self.limit));
        tokio::time::timeout(self.limit, self.journal.commit(records)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hung;

    impl LeaseJournal for Hung {
        async fn commit(&self, _: &[LeaseRecord]) -> Result<(), JournalError> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_hung_database_is_given_up() {
        let hung = Patient { limit: Duration::from_millis(10), ..Patient::new(Hung) };
        let error = hung.commit(&[]).await.unwrap_err();
        assert!(error.to_string().contains("has not answered in 10ms"), "{error}");
    }
}
