//! A real KDC of MIT Kerberos on loopback: a realm of its own with a broker and a client in it.
//!
//! The programs come from the system (Debian: `krb5-kdc` and `krb5-admin-server`); database, configuration and
//! keytabs lie in a folder that goes with it, and no configuration of the machine is read.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result, broken};
use crate::jars::need;
use crate::ports;
use crate::process::{Process, lost_its_port, run, tail, wait_a_little};
use crate::run_dir::{RunDir, new_dir};

/// The realm.
pub const REALM: &str = "WEIR.TEST";

/// The brokers' principal, without its realm; their host is called `localhost`.
pub const SERVICE: &str = "kafka/localhost";

/// The client's principal, without its realm.
pub const CLIENT: &str = "weir";

/// The password of [`CLIENT`].
pub const CLIENT_PASSWORD: &str = "weir-kerberos-secret";

const READY: Duration = Duration::from_secs(20);
const ATTEMPTS: usize = 3;

/// How long tickets are good, unless a test wants otherwise.
const TICKET_LIFETIME: Duration = Duration::from_hours(1);

/// The kinds of keys, unless a test wants others: those that every Java since 8 knows.
const ENCTYPES: &str = "aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96";

/// A running KDC. Dropping it ends it and removes everything.
#[derive(Debug)]
pub struct Kdc {
    address: SocketAddr,
    // Before the folder, which is removed last.
    _process: Process,
    run_dir: RunDir,
}

impl Kdc {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// [`Failure::NotHere`] if MIT Kerberos is not installed; [`Failure::Broken`] if it does not start.
    pub fn start() -> Result<Self> {
        Self::with_tickets_of(TICKET_LIFETIME)
    }

    /// Starts one whose tickets are good for so long: whole seconds. Brokers end a session with its ticket, so
    /// this makes clients authenticate again.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with_tickets_of(lifetime: Duration) -> Result<Self> {
        Self::with(lifetime, ENCTYPES)
    }

    /// Starts one whose keys are of these kinds alone, as MIT's programs name them, with a blank between them.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with_keys_of(enctypes: &str) -> Result<Self> {
        Self::with(TICKET_LIFETIME, enctypes)
    }

    fn with(lifetime: Duration, enctypes: &str) -> Result<Self> {
        for program in ["krb5kdc", "kdb5_util", "kadmin.local"] {
            need(program)?;
        }
        let mut attempt = 1;
        loop {
            let run_dir = RunDir::take(new_dir("kdc")?)?;
            match Self::launch(run_dir.path(), lifetime, enctypes) {
                Ok((address, process)) => return Ok(Self { address, _process: process, run_dir }),
                Err(failure) if attempt == ATTEMPTS || !lost_its_port(&failure, run_dir.path()) => {
                    return Err(failure);
                }
                Err(_) => attempt += 1,
            }
        }
    }

    fn launch(dir: &Path, lifetime: Duration, enctypes: &str) -> Result<(SocketAddr, Process)> {
        let port = ports::free(1)?.into_iter().next().unwrap_or_default();
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(broken(path.display()))
        };
        write("krb5.conf", client_config(port, enctypes))?;
        write("kdc.conf", kdc_config(dir, port, lifetime, enctypes))?;
        run(
            dir,
            "create",
            command(dir, "kdb5_util")?.args(["create", "-s", "-r", REALM, "-P", "weir-master"]),
        )?;
        let (service, client) = (dir.join("service.keytab"), dir.join("client.keytab"));
        for query in [
            format!("addprinc -randkey {SERVICE}"),
            format!("addprinc -pw {CLIENT_PASSWORD} {CLIENT}"),
            format!("ktadd -norandkey -k {} {SERVICE}", service.display()),
            format!("ktadd -norandkey -k {} {CLIENT}", client.display()),
        ] {
            run(dir, "kadmin", command(dir, "kadmin.local")?.args(["-r", REALM, "-q", &query]))?;
        }
        let mut process = Process::spawn(dir, "kdc", command(dir, "krb5kdc")?.args(["-n", "-r", REALM]))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + READY;
        while TcpStream::connect(address).is_err() {
            if !process.is_alive() || Instant::now() > deadline {
                return Err(Failure::Broken(format!("the KDC does not answer\n{}", tail(dir, "kdc"))));
            }
            wait_a_little();
        }
        // kadmin ends with success whatever happened; the keytabs tell.
        for keytab in [service, client] {
            fs::metadata(&keytab).map_err(broken(format!(
                "{}\n{}",
                keytab.display(),
                tail(dir, "kadmin")
            )))?;
        }
        Ok((address, process))
    }

    /// Where it listens, for TCP and UDP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `krb5.conf` that leads here: for `KRB5_CONFIG`, or for Java's `java.security.krb5.conf`.
    pub fn config(&self) -> PathBuf {
        self.run_dir.path().join("krb5.conf")
    }

    /// The key of [`SERVICE`].
    pub fn service_keytab(&self) -> PathBuf {
        self.run_dir.path().join("service.keytab")
    }

    /// The key of [`CLIENT`].
    pub fn client_keytab(&self) -> PathBuf {
        self.run_dir.path().join("client.keytab")
    }

    /// Has one line carried out by the administrator's program, such as `addprinc -pw secret name`.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] if the program fails. It ends with success where a line asks for what cannot be.
    pub fn admin(&self, line: &str) -> Result<()> {
        let dir = self.run_dir.path();
        run(dir, "kadmin", command(dir, "kadmin.local")?.args(["-r", REALM, "-q", line]))
    }

    /// Where it keeps its files; what goes there goes with it.
    pub fn dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// Gets a ticket for [`CLIENT`] into a credential cache of that name, as a user's `kinit` would.
    ///
    /// # Errors
    ///
    /// [`Failure::NotHere`] without `kinit` (Debian: `krb5-user`); [`Failure::Broken`] if there is no ticket.
    pub fn kinit(&self, cache: &Path) -> Result<()> {
        let mut kinit = Command::new(need("kinit")?);
        kinit.env("KRB5_CONFIG", self.config()).args(["-k", "-t"]).arg(self.client_keytab());
        run(self.run_dir.path(), "kinit", kinit.arg("-c").arg(cache).arg(format!("{CLIENT}@{REALM}")))
    }
}

fn command(dir: &Path, program: &str) -> Result<Command> {
    let mut command = Command::new(need(program)?);
    command.env("KRB5_CONFIG", dir.join("krb5.conf")).env("KRB5_KDC_PROFILE", dir.join("kdc.conf"));
    Ok(command)
}

/// No look-ups by DNS, which would leave this machine; TCP, which loses nothing.
fn client_config(port: u16, enctypes: &str) -> String {
    format!(
        "[libdefaults]
  default_realm = {REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
  permitted_enctypes = {enctypes}
[realms]
  {REALM} = {{
    kdc = 127.0.0.1:{port}
  }}
[domain_realm]
  localhost = {REALM}
"
    )
}

fn kdc_config(dir: &Path, port: u16, lifetime: Duration, enctypes: &str) -> String {
    let (dir, seconds) = (dir.display(), lifetime.as_secs());
    let salted: Vec<_> = enctypes.split(' ').map(|one| format!("{one}:normal")).collect();
    let enctypes = salted.join(" ");
    format!(
        "[kdcdefaults]
  kdc_listen = 127.0.0.1:{port}
  kdc_tcp_listen = 127.0.0.1:{port}
[realms]
  {REALM} = {{
    database_name = {dir}/principal
    key_stash_file = {dir}/stash
    acl_file = {dir}/kadm5.acl
    max_life = {seconds}s
    max_renewable_life = 0s
    supported_enctypes = {enctypes}
  }}
[logging]
  kdc = STDERR
"
    )
}
