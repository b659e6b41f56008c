//! Work on many logs, by a few threads that live as long as it takes.

use std::thread::{ScopedJoinHandle, scope};

/// Runs `work` on each of `items`, with up to `threads` threads; the results come in no particular
/// order. A panic of one is a panic here.
pub(super) fn in_parallel<T: Send, R: Send>(
    threads: usize,
    mut items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let each = items.len().div_ceil(threads.max(1)).max(1);
    let mut results = Vec::with_capacity(items.len());
    scope(|scope| {
        let work = &work;
        let mut running: Vec<ScopedJoinHandle<'_, Vec<R>>> = Vec::new();
        while items.len() > each {
            let part = items.split_off(items.len() - each);
            running.push(scope.spawn(move || part.into_iter().map(work).collect()));
        }
        results.extend(items.into_iter().map(work));
        for part in running {
            match part.join() {
                Ok(part) => results.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once() {
        for count in [0, 1, 3, 4, 5, 1000] {
            let mut found = in_parallel(4, (0..count).collect(), |item: usize| item);
            found.sort_unstable();
            assert_eq!(found, (0..count).collect::<Vec<_>>());
        }
    }
}
