//! Requests that every broker answers for itself.

use std::collections::BTreeSet;

use smallvec::{SmallVec, smallvec};

use super::{Routed, Spot, View, first_error};
use crate::ErrorCode;
use crate::messages::{describe_log_dirs, list_groups, list_transactions};
use crate::wire::Message;

/// An answer has one error for all, so that of one broker's failure stands beside what the others said.
macro_rules! by_broker {
    ($module:ident :: $request:ident, |$whole:ident, $part:ident| $merge:expr) => {
        impl Routed for $module::$request {
            fn split(self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
                view.each().into_iter().map(|spot| (spot, self.clone())).collect()
            }

            fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]> {
                smallvec![response.error_code()]
            }

            fn merge(mut $whole: Self::Response, rest: Vec<Self::Response>) -> Self::Response {
                for $part in rest {
                    $whole.throttle_time_ms = $whole.throttle_time_ms.max($part.throttle_time_ms);
                    $whole.error_code = first_error($whole.error_code, $part.error_code);
                    $merge;
                }
                $whole
            }

            fn failed(&self, code: ErrorCode, _words: &str) -> Option<Self::Response> {
                let mut said = Self::Response::default();
                said.error_code = code.0;
                Some(said)
            }
        }
    };
}

by_broker!(list_groups::ListGroupsRequest, |whole, part| {
    // While a coordinator moves, two brokers may list its groups.
    let known: BTreeSet<_> = whole.groups.iter().map(|group| group.group_id.clone()).collect();
    whole.groups.extend(part.groups.into_iter().filter(|group| !known.contains(&group.group_id)));
});

by_broker!(list_transactions::ListTransactionsRequest, |whole, part| {
    let known: BTreeSet<_> =
        whole.transaction_states.iter().map(|state| state.transactional_id.clone()).collect();
    let new = part.transaction_states.into_iter().filter(|state| !known.contains(&state.transactional_id));
    whole.transaction_states.extend(new);
    let unknown: BTreeSet<_> = whole.unknown_state_filters.iter().cloned().collect();
    whole
        .unknown_state_filters
        .extend(part.unknown_state_filters.into_iter().filter(|f| !unknown.contains(f)));
});

// Which broker a directory is on can only be told from the parts.
by_broker!(describe_log_dirs::DescribeLogDirsRequest, |whole, part| whole.results.extend(part.results));
