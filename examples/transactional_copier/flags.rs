//! The command line of the transactional copier.

use std::time::Duration;

use weir::consumer::GroupProtocol;

pub(crate) const USAGE: &str = "usage: --bootstrap-server HOST:PORT[,...] --transactional-id NAME \
--input-topic NAME --input-partition N --output-topic NAME --consumer-group NAME
  --max-messages N           how many records; up to what is there at the start if negative (-1)
  --transaction-size N       how many records a transaction has at most (200)
  --transaction-timeout MS   for how long a transaction may be open (60000)
  --enable-random-aborts     every third transaction or so is aborted, and its records are copied again
  --group-mode               share the input topic with the other members of the group, by whichever partitions
  --group-protocol NAME      classic or consumer (classic), in group mode
  --use-group-metadata       say to the group which member commits (KIP-447)
  --follow                   go on with what comes later, until the end is wanted (ours; Java's ends)";

/// What is to be done.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of a command line")]
pub(crate) struct Job {
    pub(crate) bootstrap: String,
    pub(crate) transactional_id: String,
    pub(crate) input: String,
    pub(crate) partition: i32,
    pub(crate) output: String,
    pub(crate) group: String,
    /// What is there at the start if it is none.
    pub(crate) count: Option<u64>,
    pub(crate) size: usize,
    pub(crate) timeout: Duration,
    pub(crate) random_aborts: bool,
    pub(crate) group_mode: bool,
    pub(crate) protocol: GroupProtocol,
    pub(crate) group_metadata: bool,
    pub(crate) follow: bool,
}

impl Job {
    /// Reads flags, each with its value, if it has one, behind it or behind an `=`.
    pub(crate) fn read(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut job = Self { size: 200, timeout: Duration::from_mins(1), partition: -1, ..Self::default() };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let switch = match &arg[..] {
                "--enable-random-aborts" => &mut job.random_aborts,
                "--group-mode" => &mut job.group_mode,
                "--use-group-metadata" => &mut job.group_metadata,
                "--follow" => &mut job.follow,
                _ => {
                    let (flag, value) = if let Some((flag, value)) = arg.split_once('=') {
                        (flag.to_owned(), value.to_owned())
                    } else {
                        let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                        (arg, value)
                    };
                    job.take(&flag, value)?;
                    continue;
                }
            };
            *switch = true;
        }
        let named = [&job.bootstrap, &job.transactional_id, &job.input, &job.output, &job.group];
        if named.iter().any(|name| name.is_empty()) || (job.partition < 0 && !job.group_mode) || job.size == 0
        {
            return Err("something that is needed is missing, or is no number above 0".into());
        }
        Ok(job)
    }

    fn take(&mut self, flag: &str, value: String) -> Result<(), String> {
        match flag {
            "--bootstrap-server" | "--broker-list" => self.bootstrap = value,
            "--transactional-id" => self.transactional_id = value,
            "--input-topic" => self.input = value,
            "--input-partition" => self.partition = number(flag, &value)?,
            "--output-topic" => self.output = value,
            "--consumer-group" => self.group = value,
            "--max-messages" => self.count = u64::try_from(number::<i64>(flag, &value)?).ok(),
            "--transaction-size" => self.size = number(flag, &value)?,
            "--transaction-timeout" => self.timeout = Duration::from_millis(number(flag, &value)?),
            "--group-protocol" => {
                self.protocol = match &value.to_lowercase()[..] {
                    "classic" => GroupProtocol::Classic,
                    "consumer" => GroupProtocol::Consumer,
                    _ => return Err(format!("{flag} {value}: classic or consumer")),
                };
            }
            _ => return Err(format!("{flag} is not known")),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} {value}: no such number"))
}
