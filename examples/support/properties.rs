//! Settings by Kafka's names: a properties file, and which name is which method of the client's builder.

use std::time::Duration;

use weir::Client;

/// The names and values of a Java properties file: `name=value` or `name: value`, `#` or `!` before comments, and a
/// backslash where a line goes on in the next.
pub(crate) fn read(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut whole = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        if whole.is_empty() && line.starts_with(['#', '!']) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            whole.push_str(begun);
            continue;
        }
        whole.push_str(line);
        let pair = std::mem::take(&mut whole);
        if !pair.trim().is_empty() {
            let (name, value) = pair.split_once(['=', ':']).unwrap_or((&pair, ""));
            found.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// Settings, of which the last of a name counts.
pub(crate) struct Settings<'a> {
    all: &'a [(String, String)],
}

impl<'a> Settings<'a> {
    /// Warns of names that are neither the client's nor among these.
    pub(crate) fn new(all: &'a [(String, String)], known: &[&str]) -> Self {
        for (name, _) in all {
            if !KNOWN.contains(&&name[..]) && !known.contains(&&name[..]) {
                eprintln!("{name} is not known here and changes nothing");
            }
        }
        Self { all }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.all.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name}={text}: no such number"));
        self.text(name).map(parse).transpose()
    }

    pub(crate) fn millis(&self, name: &str) -> Result<Option<Duration>, String> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    /// A first and a longest time, of which either may be missing.
    pub(crate) fn range(
        &self,
        first: &str,
        most: &str,
        usual: [u64; 2],
    ) -> Result<Option<(Duration, Duration)>, String> {
        let (first, most) = (self.millis(first)?, self.millis(most)?);
        let [usual_first, usual_most] = usual.map(Duration::from_millis);
        let any = first.is_some() || most.is_some();
        Ok(any.then(|| (first.unwrap_or(usual_first), most.unwrap_or(usual_most))))
    }

    /// The client's part.
    pub(crate) fn client(&self, bootstrap: &str) -> Result<weir::Builder, String> {
        match self.text("security.protocol") {
            None | Some("PLAINTEXT") => {}
            Some(other) => {
                return Err(format!("security.protocol={other}: this program speaks PLAINTEXT alone"));
            }
        }
        let mut builder = Client::builder(bootstrap);
        if let Some(id) = self.text("client.id") {
            builder = builder.client_id(id);
        }
        if let Some(time) = self.millis("request.timeout.ms")? {
            builder = builder.request_timeout(time);
        }
        if let Some(time) = self.millis("metadata.max.age.ms")? {
            builder = builder.metadata_max_age(time);
        }
        if let Some(time) = self.millis("connections.max.idle.ms")? {
            builder = builder.idle_timeout(time);
        }
        let names = ("reconnect.backoff.ms", "reconnect.backoff.max.ms");
        if let Some((first, most)) = self.range(names.0, names.1, [50, 1000])? {
            builder = builder.backoff(first, most);
        }
        let names = ("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms");
        if let Some((first, most)) = self.range(names.0, names.1, [10_000, 30_000])? {
            builder = builder.setup_timeout(first, most);
        }
        Ok(builder)
    }
}

/// All names that something above stands for. The address comes by a flag.
const KNOWN: [&str; 10] = [
    "bootstrap.servers",
    "security.protocol",
    "client.id",
    "request.timeout.ms",
    "metadata.max.age.ms",
    "connections.max.idle.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
];
