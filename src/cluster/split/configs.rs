//! Requests with config resources: those of one broker go to it, the others to any.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::{Place, Routed, Spot, UNSAID, View, group};
use crate::ErrorCode;
use crate::messages::{alter_configs, describe_configs, incremental_alter_configs};
use crate::wire::Str;

/// The types of resources that only the broker of that id answers for.
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;

/// The empty name stands for the defaults of all brokers, which any knows.
fn place(resource_type: i8, name: &str) -> Place {
    match name.parse() {
        Ok(id) if matches!(resource_type, BROKER | BROKER_LOGGER) => Place::Broker(id),
        _ => Place::Any,
    }
}

macro_rules! by_resource {
    ($module:ident :: $request:ident: $resource:ident -> $answers:ident: $answer:ident) => {
        impl Routed for $module::$request {
            fn split(mut self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
                let resources = std::mem::take(&mut self.resources);
                if resources.is_empty() {
                    return vec![(view.spot(&Place::Any), self)];
                }
                let parts = group(resources, |resource: &$module::$resource| {
                    view.spot(&place(resource.resource_type, &resource.resource_name))
                });
                let part = |(spot, resources)| (spot, Self { resources, ..self.clone() });
                parts.into_iter().map(part).collect()
            }

            fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]> {
                response.$answers.iter().map(|answer| ErrorCode(answer.error_code)).collect()
            }

            fn again(
                &self,
                response: &mut Option<Self::Response>,
                is_again: &dyn Fn(ErrorCode) -> bool,
            ) -> Option<Self> {
                let answer = response.as_mut()?;
                let mut moved: BTreeSet<(i8, Str)> = BTreeSet::new();
                answer.$answers.retain(|answer| {
                    let stays = !is_again(ErrorCode(answer.error_code));
                    stays || !moved.insert((answer.resource_type, answer.resource_name.clone()))
                });
                if moved.is_empty() {
                    return None;
                }
                if answer.$answers.is_empty() {
                    *response = None;
                }
                let mut resources = self.resources.clone();
                resources.retain(|asked| moved.contains(&(asked.resource_type, asked.resource_name.clone())));
                (!resources.is_empty()).then(|| Self { resources, ..self.clone() })
            }

            fn merge(mut whole: Self::Response, rest: Vec<Self::Response>) -> Self::Response {
                for part in rest {
                    whole.throttle_time_ms = whole.throttle_time_ms.max(part.throttle_time_ms);
                    whole.$answers.extend(part.$answers);
                }
                let mut seen = BTreeSet::new();
                whole
                    .$answers
                    .retain(|answer| seen.insert((answer.resource_type, answer.resource_name.clone())));
                whole
            }

            fn failed(&self, code: ErrorCode, words: &str) -> Option<Self::Response> {
                let answer = |resource: &$module::$resource| $module::$answer {
                    error_code: code.0,
                    error_message: Some(words.into()),
                    resource_type: resource.resource_type,
                    resource_name: resource.resource_name.clone(),
                    ..Default::default()
                };
                let $answers = self.resources.iter().map(answer).collect();
                let mut said = Self::Response::default();
                said.$answers = $answers;
                Some(said)
            }

            fn complete(&self, response: &mut Self::Response) {
                if response.$answers.len() < self.resources.len() {
                    let unsaid = self.failed(UNSAID.0, UNSAID.1).into_iter().collect();
                    *response = Self::merge(std::mem::take(response), unsaid);
                }
            }
        }
    };
}

by_resource!(describe_configs::DescribeConfigsRequest: DescribeConfigsResource -> results: DescribeConfigsResult);
by_resource!(alter_configs::AlterConfigsRequest: AlterConfigsResource -> responses: AlterConfigsResourceResponse);
by_resource!(
    incremental_alter_configs::IncrementalAlterConfigsRequest: AlterConfigsResource
        -> responses: AlterConfigsResourceResponse
);
