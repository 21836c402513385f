//! Real Kafka brokers for people and scripts; `scripts/kafka` is this command.
//!
//! Exit codes: 0 good; 1 the broker failed; 2 wrong usage; 3 not available on this machine.

#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use weir_kafka_harness::kdc::Kdc;
use weir_kafka_harness::oidc::Issuer;
use weir_kafka_harness::{Builder, Cluster, Failure, Listener, Mechanism, Version, fetch, run_dir};

const USAGE: &str = "\
Real Kafka brokers for tests, from Maven Central: no container engine, only Java and Maven.

  fetch VERSION                     the jars; prints their directory
  start VERSION [OPTION...]         brokers in the background; prints bootstrap=, pid=, dir=
  stop DIR                          ends what start began and removes its data
  run VERSION [OPTION...]           brokers in the foreground, until a signal

  --nodes N             how many brokers (default 1)
  --listener L          plain, tls, mtls, sasl-plain:MECHANISM or sasl-tls:MECHANISM (default plain; may be
                        given again). With other than plain alone, bootstrap.L= is printed for each, and
                        what a client needs: user=, ca=, krb5.conf=, krb5.keytab=, token.url=.
  --user NAME:PASSWORD  a user for PLAIN and SCRAM (default weir:weir-secret; may be given again)
  --issuer              an OIDC issuer, whose tokens alone are taken by OAUTHBEARER
  --port P              this port for the first listener instead of a free one; the next for the next broker
  --property KEY=VALUE  one more line for server.properties (may be given again)
  --until-eof           (run) also end when standard input ends: whoever holds the other end of the
                        pipe owns the brokers

WEIR_KAFKA_DIR  where the jars are kept, one folder a version (default: target/kafka)
WEIR_KAFKA_JVM  flags for the broker's Java (default: a small heap and a quick start)

Exit codes: 0 good; 1 the broker failed; 2 wrong usage; 3 not available on this machine (no Java, no
Maven, or the jars cannot be had): the tests count that as a skip, everything else as a failure.
";

/// How the command failed.
enum Trouble {
    Usage(String),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match command(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Trouble::Usage(why)) => {
            eprint!("{}{USAGE}", if why.is_empty() { why } else { format!("kafka: {why}\n") });
            ExitCode::from(2)
        }
        Err(Trouble::Failed(failure)) => {
            eprintln!("kafka: {failure}");
            ExitCode::from(if matches!(failure, Failure::NotHere(_)) { 3 } else { 1 })
        }
    }
}

fn command(args: &[&str]) -> Result<(), Trouble> {
    match args {
        ["fetch", version] => {
            println!("{}", fetch(&parse_version(version)?)?.display());
            Ok(())
        }
        ["start", version, options @ ..] => start(version, options),
        ["stop", dir] => Ok(run_dir::stop(dir.as_ref())?),
        ["run", version, options @ ..] => run(version, options),
        _ => Err(Trouble::Usage(String::new())),
    }
}

/// What the options say.
struct Options {
    builder: Builder,
    until_eof: bool,
    /// One of the listeners is for Kerberos.
    kerberos: bool,
    issuer: bool,
}

fn parse_version(text: &str) -> Result<Version, Trouble> {
    text.parse().map_err(|failure: Failure| Trouble::Usage(failure.to_string()))
}

fn parse(version: &str, args: &[&str]) -> Result<Options, Trouble> {
    parse_version(version)?;
    let mut options =
        Options { builder: Cluster::builder(version), until_eof: false, kerberos: false, issuer: false };
    let mut rest = args.iter();
    while let Some(name) = rest.next() {
        match *name {
            "--until-eof" => {
                options.until_eof = true;
                continue;
            }
            "--issuer" => {
                options.issuer = true;
                continue;
            }
            _ => {}
        }
        let value = *rest.next().ok_or_else(|| Trouble::Usage(format!("{name} wants a value")))?;
        let wrong = || Trouble::Usage(format!("{name} {value}: not understood"));
        let builder = options.builder;
        options.builder = match *name {
            "--nodes" => builder.nodes(value.parse().map_err(|_| wrong())?),
            "--listener" => {
                let listener: Listener = value.parse().map_err(|_| wrong())?;
                options.kerberos |= listener.mechanism() == Some(Mechanism::Gssapi);
                builder.listener(listener)
            }
            "--user" => {
                let (name, password) = value.split_once(':').ok_or_else(wrong)?;
                builder.user(name, password)
            }
            "--port" => builder.port(value.parse().map_err(|_| wrong())?),
            "--property" => {
                let (key, value) = value.split_once('=').ok_or_else(wrong)?;
                builder.property(key, value)
            }
            "--dir" => builder.dir(PathBuf::from(value)),
            _ => return Err(Trouble::Usage(format!("no option {name}"))),
        };
    }
    Ok(options)
}

/// Runs until a signal, the end of the input if that was asked for, or a broker's death.
fn run(version: &str, args: &[&str]) -> Result<(), Trouble> {
    let options = parse(version, args)?;
    let (kdc, issuer) = helpers(&options)?;
    let ended = listen_for_the_end(options.until_eof)?;
    // Starting takes seconds; who is told to end meanwhile leaves at once, and the guard of the folder cleans up.
    let (to, started) = mpsc::channel();
    let mut builder = options.builder;
    if let Some(kdc) = &kdc {
        builder = builder.kdc(kdc);
    }
    if let Some(issuer) = &issuer {
        builder = builder.issuer(issuer);
    }
    thread::spawn(move || drop(to.send(builder.start())));
    let cluster = loop {
        match started.recv_timeout(Duration::from_millis(100)) {
            Ok(cluster) => break cluster?,
            Err(RecvTimeoutError::Disconnected) => return Err(broken("starting", "it panicked")),
            Err(RecvTimeoutError::Timeout) if ended.try_recv().is_ok() => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    announce(&cluster, kdc.as_ref(), issuer.as_ref())?;
    while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        if let Some(dead) = cluster.nodes().iter().find(|node| node.pid().is_none()) {
            return Err(broken(&format!("node {} died", dead.id()), &dead.log_tail()));
        }
    }
    Ok(())
}

/// What some listeners need beside a broker.
fn helpers(options: &Options) -> Result<(Option<Kdc>, Option<Issuer>), Trouble> {
    let kdc = options.kerberos.then(Kdc::start).transpose()?;
    let issuer = options.issuer.then(Issuer::start).transpose()?;
    Ok((kdc, issuer))
}

/// Says when to end: one message, or the channel's end.
fn listen_for_the_end(until_eof: bool) -> Result<mpsc::Receiver<()>, Trouble> {
    let (to, ended) = mpsc::channel();
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|e| broken("signals", &e.to_string()))?;
    let by_signal = to.clone();
    thread::spawn(move || signals.forever().next().map(|_| by_signal.send(())));
    if until_eof {
        thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut some = [0; 64];
            while matches!(input.read(&mut some), Ok(1..)) {}
            to.send(())
        });
    }
    Ok(ended)
}

/// Prints the lines, and leaves them in the folder for `start` to find: whole, by the rename.
fn announce(cluster: &Cluster, kdc: Option<&Kdc>, issuer: Option<&Issuer>) -> Result<(), Trouble> {
    let addresses = |listener: Listener| {
        let all: Vec<String> = cluster.bootstrap(listener).iter().map(ToString::to_string).collect();
        all.join(",")
    };
    let mut said = String::new();
    if let Some(first) = cluster.listeners().first() {
        let _ = writeln!(said, "bootstrap={}", addresses(*first));
    }
    if cluster.listeners() != [Listener::plain()] {
        for listener in cluster.listeners() {
            let _ = writeln!(said, "bootstrap.{listener}={}", addresses(*listener));
        }
    }
    if cluster.listeners().iter().any(|listener| listener.mechanism().is_some()) {
        for (name, password) in cluster.users() {
            let _ = writeln!(said, "user={name}:{password}");
        }
    }
    if let Some(certificates) = cluster.certificates() {
        let _ = writeln!(said, "ca={}", certificates.authority().display());
    }
    if let Some(kdc) = kdc {
        let (config, keytab) = (kdc.config(), kdc.client_keytab());
        let _ = writeln!(said, "krb5.conf={}\nkrb5.keytab={}", config.display(), keytab.display());
    }
    if let Some(issuer) = issuer {
        let _ = writeln!(said, "token.url={}", issuer.token_url(false));
    }
    let _ = writeln!(said, "pid={}\ndir={}", std::process::id(), cluster.dir().display());
    let (part, whole) = (cluster.dir().join("ready.part"), cluster.dir().join("ready"));
    fs::write(&part, &said)
        .and_then(|()| fs::rename(&part, &whole))
        .map_err(|e| broken("ready", &e.to_string()))?;
    print!("{said}");
    std::io::stdout().flush().map_err(|e| broken("output", &e.to_string()))
}

/// Runs this command again, in the background, and waits until it is ready.
fn start(version: &str, args: &[&str]) -> Result<(), Trouble> {
    if parse(version, args)?.until_eof {
        return Err(Trouble::Usage("start has no --until-eof".to_owned()));
    }
    // In the foreground, so that its reasons are seen.
    fetch(&parse_version(version)?)?;
    let dir = run_dir::new_dir(version)?;
    let log_path = dir.with_extension("start.log");
    let log = File::create(&log_path).map_err(|e| broken("the log", &e.to_string()))?;
    let again = std::env::current_exe().map_err(|e| broken("this program", &e.to_string()))?;
    let mut child = Command::new("sh")
        .args(["-c", "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$@\"", "sh"])
        .arg(again)
        .args(["run", version])
        .args(args)
        .arg("--dir")
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|e| broken("run", &e.to_string()))?;
    let ready = dir.join("ready");
    let status = loop {
        if ready.exists() {
            break None;
        }
        match child.try_wait() {
            Ok(None) => weir_kafka_harness::wait_a_little(),
            Ok(Some(status)) => break Some(status),
            Err(error) => return Err(broken("run", &error.to_string())),
        }
    };
    let said = fs::read_to_string(&log_path).unwrap_or_default();
    let _ = fs::remove_file(&log_path);
    match status {
        None => print!("{}", fs::read_to_string(&ready).unwrap_or_default()),
        Some(status) if status.code() == Some(3) => {
            return Err(Failure::NotHere(said.trim_end().trim_start_matches("kafka: ").to_owned()).into());
        }
        Some(_) => {
            eprint!("{said}");
            return Err(broken(version, "it did not start"));
        }
    }
    Ok(())
}

fn broken(doing: &str, why: &str) -> Trouble {
    Trouble::Failed(Failure::Broken(format!("{doing}: {why}")))
}
