//! The command line of the verifiable consumer.

use super::properties;

pub(crate) const USAGE: &str = "usage: --bootstrap-server HOST:PORT[,...] --topic NAME --group-id NAME
  --max-messages N              how many records; without end if negative (-1)
  --session-timeout MS          how long it may be silent, by the classic protocol (30000)
  --verbose                     a line for each record
  --enable-autocommit           what was read is committed from time to time, not after each batch
  --reset-policy NAME           where to begin: earliest, latest or none (earliest)
  --assignment-strategy NAMES   range, roundrobin, sticky, cooperative-sticky, or Java's names (range)
  --group-instance-id NAME      a static member
  --group-protocol NAME         classic or consumer (classic)
  --group-remote-assignor NAME  the broker's assignor, by the protocol `consumer`
  --command-config FILE         settings by Kafka's names, weaker than the flags; also --consumer.config";

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Job {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// All without end if it is none.
    pub(crate) count: Option<u64>,
    pub(crate) verbose: bool,
    pub(crate) auto_commit: bool,
    /// Kafka's names and values, the stronger ones last.
    pub(crate) settings: Vec<(String, String)>,
}

impl Job {
    /// Reads flags, each with its value, if it has one, behind it or behind an `=`.
    pub(crate) fn read(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut job = Self::default();
        let usual = [("session.timeout.ms", "30000"), ("auto.offset.reset", "earliest")];
        let mut settings: Vec<(String, String)> =
            usual.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut group = None;
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            match &arg[..] {
                "--verbose" => job.verbose = true,
                "--enable-autocommit" => job.auto_commit = true,
                _ => {
                    let (flag, value) = if let Some((flag, value)) = arg.split_once('=') {
                        (flag.to_owned(), value.to_owned())
                    } else {
                        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                        (arg, value)
                    };
                    match &flag[..] {
                        "--bootstrap-server" | "--broker-list" => job.bootstrap = value,
                        "--topic" => job.topic = value,
                        "--group-id" => group = Some(value),
                        "--max-messages" => job.count = u64::try_from(number(&flag, &value)?).ok(),
                        "--command-config" | "--consumer.config" => {
                            let text = std::fs::read_to_string(&value)
                                .map_err(|error| format!("{value}: {error}"))?;
                            job.settings = properties::read(&text);
                        }
                        _ => settings.push((named(&flag)?.to_owned(), value)),
                    }
                }
            }
        }
        job.settings.extend(settings);
        let Some(group) = group.filter(|_| !job.bootstrap.is_empty() && !job.topic.is_empty()) else {
            return Err("--bootstrap-server, --topic and --group-id are needed".into());
        };
        job.settings.push(("group.id".into(), group));
        Ok(job)
    }
}

/// The setting that a flag stands for.
fn named(flag: &str) -> Result<&'static str, String> {
    Ok(match flag {
        "--session-timeout" => "session.timeout.ms",
        "--reset-policy" => "auto.offset.reset",
        "--assignment-strategy" => "partition.assignment.strategy",
        "--group-instance-id" => "group.instance.id",
        "--group-protocol" => "group.protocol",
        "--group-remote-assignor" => "group.remote.assignor",
        _ => return Err(format!("{flag} is not known")),
    })
}

fn number(flag: &str, value: &str) -> Result<i64, String> {
    value.parse().map_err(|_| format!("{flag} {value}: no whole number"))
}
