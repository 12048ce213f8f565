//! Log messages that repeat: [`LogThrottle`].

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use crate::domain::pace::Pace;

/// Lets a repeated cause be logged at once, then at widening intervals.
#[derive(Debug)]
pub struct LogThrottle {
    started: Instant,
    pace: Mutex<Pace>,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            pace: Mutex::default(),
        }
    }
}

impl LogThrottle {
    /// Whether this cause is to be logged now.
    pub fn is_due(&self, cause: &str) -> bool {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.is_due(cause, self.started.elapsed())
    }
}
