//! From a host to the addresses to try, in their order, and never more than a bound.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::config::Config;
use super::{Address, BoxFuture, clock, until};
use crate::error::{Error, Result};

/// Addresses that are looked at in one answer; what follows is as good as any of them.
const ANSWER_MAX: usize = 4096;

/// Finds the addresses of a host, in place of the operating system.
///
/// Numbers are not asked for. The client tries the addresses in the order given, with the two families taking turns,
/// up to [`Config::addresses_max`]. The call is dropped when its time is over, which must be safe.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host`; an empty list says that there are none.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The socket addresses to try for `to`; at least one.
///
/// The operating system's resolver runs in a thread that cannot be cancelled: when the time is over this returns,
/// and the thread ends when the resolver's own time is over.
pub(super) async fn addresses(config: &Config, to: &Address, deadline: Instant) -> Result<Vec<SocketAddr>> {
    if let Some(ip) = to.ip() {
        return Ok(vec![SocketAddr::new(ip, to.port())]);
    }
    let deadline = deadline.min(clock::now() + config.resolve_timeout);
    let found: Vec<SocketAddr> = if let Some(resolver) = &config.resolver {
        let answer = until(deadline, || slow(to), resolver.resolve(to.host())).await?;
        let answer = answer.map_err(|error| unknown(to, error))?;
        answer.into_iter().take(ANSWER_MAX).map(|ip| SocketAddr::new(ip, to.port())).collect()
    } else {
        let answer = until(deadline, || slow(to), tokio::net::lookup_host((to.host(), to.port()))).await?;
        answer.map_err(|error| unknown(to, error))?.take(ANSWER_MAX).collect()
    };
    let order = take_turns(&found, config.addresses_max);
    if order.is_empty() {
        return Err(Error::io(format!("the name '{}' has no address", to.host())));
    }
    Ok(order)
}

fn slow(to: &Address) -> String {
    format!("looking up the name '{}'", to.host())
}

fn unknown(to: &Address, error: io::Error) -> Error {
    Error::io(format!("the name '{}' was not found: {error}", to.host())).because(error)
}

/// The first `max` different addresses, the families taking turns, beginning with that of the first one: where one
/// family is dead, the second try already has the other (RFC 8305, section 4).
fn take_turns(found: &[SocketAddr], max: usize) -> Vec<SocketAddr> {
    let first_is_v4 = found.first().is_some_and(SocketAddr::is_ipv4);
    let mut own = found.iter().filter(|address| address.is_ipv4() == first_is_v4);
    let mut other = found.iter().filter(|address| address.is_ipv4() != first_is_v4);
    let mut order: Vec<SocketAddr> = Vec::new();
    loop {
        let turn = [own.next(), other.next()];
        if turn == [None, None] {
            return order;
        }
        for address in turn.into_iter().flatten() {
            if order.len() == max {
                return order;
            }
            if !order.contains(address) {
                order.push(*address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(found: &[&str], max: usize) -> Vec<String> {
        let found: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 9)).collect();
        take_turns(&found, max).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn families_take_turns_and_keep_their_order() {
        assert_eq!(
            turns(&["::1", "::2", "::3", "1.0.0.1", "1.0.0.2"], 9),
            ["::1", "1.0.0.1", "::2", "1.0.0.2", "::3"]
        );
        assert_eq!(turns(&["1.0.0.1", "1.0.0.2", "::1"], 9), ["1.0.0.1", "::1", "1.0.0.2"]);
        assert_eq!(turns(&["1.0.0.1", "1.0.0.1", "1.0.0.2"], 9), ["1.0.0.1", "1.0.0.2"]);
        assert_eq!(turns(&["::1", "::2", "1.0.0.1"], 2), ["::1", "1.0.0.1"]);
        assert!(turns(&[], 9).is_empty() && turns(&["::1"], 0).is_empty());
    }
}
