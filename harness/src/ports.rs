//! Free ports for brokers.
//!
//! They come from below the range that the system hands out by itself. Somebody may still take one between our
//! look and the broker's start: the broker then fails to bind, and the cluster tries again with others.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failure::{Failure, Result, broken};

const FIRST: u16 = 20_000;
const COUNT: u32 = 12_000;

/// Ports that nobody listens on. Within this process none is given twice until all were.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that start at the same time must not walk side by side.
    let _ =
        NEXT.compare_exchange(0, RandomState::new().hash_one(0) as u32, Ordering::Relaxed, Ordering::Relaxed);
    let mut held = Vec::new();
    for _ in 0..COUNT {
        if held.len() == count {
            break;
        }
        let port = FIRST + (NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        // Held until all are found; then all are let go at once.
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(Failure::Broken(format!("no {count} free ports from {FIRST}")));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// Refuses a port that somebody listens on. What answers there later is then who was started next.
pub(crate) fn must_be_free(port: u16) -> Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(broken(format!("port {port}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let ports = [free(20).unwrap(), free(20).unwrap()].concat();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 40);
        for port in ports {
            assert!((FIRST..FIRST + COUNT as u16).contains(&port));
        }
        assert!(free(COUNT as usize + 1).is_err());
    }

    #[test]
    fn a_port_in_use_is_refused() {
        let somebody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = somebody.local_addr().unwrap().port();
        let failure = must_be_free(port).unwrap_err();
        assert!(
            failure.to_string().starts_with(&format!("port {port}: Address already in use")),
            "{failure}"
        );
        drop(somebody);
        assert_eq!(must_be_free(port), Ok(()));
    }
}
