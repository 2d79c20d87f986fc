//! A wakeup that does no work: any thread notifies, one waits. Notices that come while nobody waits are kept, as one.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Debug, Default)]
pub struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub fn notify(&self) {
        *self.raised.lock() = true;
        self.changed.notify_one();
    }

    /// Until notified, or until `limit` is over; without a limit, until notified.
    pub fn wait(&self, limit: Option<Duration>) {
        let mut raised = self.raised.lock();
        match limit {
            Some(limit) => {
                self.changed.wait_while_for(&mut raised, |r| !*r, limit);
            }
            None => self.changed.wait_while(&mut raised, |r| !*r),
        }
        *raised = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_notice_before_the_wait_is_not_lost() {
        let s = Arc::new(Signal::default());
        s.notify();
        s.notify();
        s.wait(None);
        s.wait(Some(Duration::from_millis(1)));
        let t = s.clone();
        let thread = std::thread::spawn(move || t.wait(None));
        s.notify();
        thread.join().unwrap();
    }
}
