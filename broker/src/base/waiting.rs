//! Whether a thread may wait for the disk.
//!
//! A thread that serves connections may not: everyone it serves would wait with it. Around a read it
//! enters [`without_waiting`]; below, the real disk then answers `WouldBlock` instead of waiting for
//! bytes that are not in memory, and the read is done again on a thread that may take its time. It
//! is the thread's state, not an argument, because it concerns every file operation a read comes to,
//! however deep, and nothing else.

use std::cell::Cell;
use std::io;

thread_local! {
    static MAY_WAIT: Cell<bool> = const { Cell::new(true) };
}

/// Whether this thread may wait for the disk now.
#[must_use]
pub fn may_wait() -> bool {
    MAY_WAIT.get()
}

/// Runs `read` without waiting for the disk.
pub fn without_waiting<T>(read: impl FnOnce() -> T) -> T {
    /// Puts back what was, also when `read` panics.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_WAIT.set(self.0);
        }
    }
    let _restore = Restore(MAY_WAIT.replace(false));
    read()
}

/// The error of what would have to wait.
#[must_use]
pub fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_allowed_again_afterwards_even_after_a_panic() {
        assert!(may_wait());
        assert!(!without_waiting(may_wait));
        without_waiting(|| {
            without_waiting(|| ());
            assert!(!may_wait());
        });
        assert!(may_wait());
        let panicked = std::panic::catch_unwind(|| without_waiting(|| panic!("expected here")));
        assert!(panicked.is_err() && may_wait());
    }
}
