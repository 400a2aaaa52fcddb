//! How many of the process's file descriptors the operators' side may have.

/// As many as anybody needs, however many files may be open.
const ON_ADDRESS_MAX: usize = 256;
const ON_SOCKET_MAX: usize = 32;

/// How many may be connected to the address, and how many to the socket: an eighth of the descriptors and a sixteenth, so that where few are
/// allowed the lanes have theirs.
pub(super) fn shares() -> (usize, usize) {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    of(allowed(&limits))
}

fn of(descriptors: Option<usize>) -> (usize, usize) {
    let Some(descriptors) = descriptors else {
        return (ON_ADDRESS_MAX, ON_SOCKET_MAX);
    };
    let address = (descriptors / 8).clamp(4, ON_ADDRESS_MAX);
    let socket = (descriptors / 16).clamp(2, ON_SOCKET_MAX);
    (address, socket)
}

/// The soft limit; `None` when it is not told, or there is none.
fn allowed(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    line?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_descriptors_leave_most_to_the_lanes() {
        assert_eq!(of(None), (256, 32));
        assert_eq!(of(Some(1_000_000)), (256, 32));
        assert_eq!(of(Some(64)), (8, 4));
        assert_eq!(of(Some(16)), (4, 2));
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(allowed(&own).is_some_and(|files| files > 10), "{own}");
        let lines = "Limit  Soft Limit  Hard Limit  Units\nMax open files  64  4096  files\n";
        assert_eq!(allowed(lines), Some(64));
    }
}
