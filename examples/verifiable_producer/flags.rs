//! The command line of the verifiable producer.

use super::properties;

pub(crate) const USAGE: &str = "usage: --bootstrap-server HOST:PORT[,...] --topic NAME
  --max-messages N          how many records; without end if negative (-1)
  --throughput N            records a second; as fast as can be if negative (-1)
  --acks -1|0|1             who has to have a record before it counts (-1: all in sync)
  --repeating-keys N        keys 0 to N-1 in turn; without it there are none
  --value-prefix N          values are N.0, N.1, ... instead of 0, 1, ...
  --message-create-time MS  the timestamp of the first record, the others as much later as they come
  --command-config FILE     settings by Kafka's names, stronger than the flags; also --producer.config";

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Job {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// All without end if it is none.
    pub(crate) count: Option<u64>,
    /// Records a second; as fast as can be if it is none.
    pub(crate) rate: Option<u64>,
    pub(crate) repeating_keys: Option<u64>,
    pub(crate) value_prefix: Option<i64>,
    pub(crate) create_time: Option<i64>,
    /// Kafka's names and values, the stronger ones last.
    pub(crate) settings: Vec<(String, String)>,
}

impl Job {
    /// Reads flags, each with its value behind it or behind an `=`.
    pub(crate) fn read(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut job = Self { settings: vec![("acks".into(), "-1".into())], ..Self::default() };
        let mut args = args.into_iter();
        let mut file = Vec::new();
        while let Some(arg) = args.next() {
            let (flag, value) = if let Some((flag, value)) = arg.split_once('=') {
                (flag.to_owned(), value.to_owned())
            } else {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                (arg, value)
            };
            match &flag[..] {
                "--bootstrap-server" | "--broker-list" => job.bootstrap = value,
                "--topic" => job.topic = value,
                "--max-messages" => job.count = u64::try_from(number(&flag, &value)?).ok(),
                "--throughput" => job.rate = u64::try_from(number(&flag, &value)?).ok(),
                "--acks" => job.settings.push(("acks".into(), value)),
                "--repeating-keys" => job.repeating_keys = u64::try_from(number(&flag, &value)?).ok(),
                "--value-prefix" => job.value_prefix = Some(number(&flag, &value)?),
                "--message-create-time" => {
                    job.create_time = Some(number(&flag, &value)?).filter(|time| *time >= 0);
                }
                "--command-config" | "--producer.config" => {
                    let text =
                        std::fs::read_to_string(&value).map_err(|error| format!("{value}: {error}"))?;
                    file = properties::read(&text);
                }
                _ => return Err(format!("{flag} is not known")),
            }
        }
        job.settings.extend(file);
        if job.bootstrap.is_empty() || job.topic.is_empty() {
            return Err("--bootstrap-server and --topic are needed".into());
        }
        Ok(job)
    }
}

fn number(flag: &str, value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| format!("{flag} {value}: no whole number"))
}
