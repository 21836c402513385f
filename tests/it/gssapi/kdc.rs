//! MIT's KDC in a folder of its own, on a free port, ended with the test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const REALM: &str = "WEIR.TEST";
const PROGRAMS: [&str; 3] = ["krb5kdc", "kdb5_util", "kadmin.local"];

/// A running KDC.
pub(super) struct Kdc {
    pub(super) dir: PathBuf,
    pub(super) port: u16,
    child: Child,
}

impl Kdc {
    /// Starts one whose keys are of these kinds, in MIT's words. The error is why this machine cannot.
    pub(super) fn start(label: &str, enctypes: &str) -> Result<Self, String> {
        for program in PROGRAMS {
            find(program)?;
        }
        let dir = std::env::temp_dir().join(format!("weir-kdc-{label}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shown = dir.display();
        fs::write(
            dir.join("krb5.conf"),
            format!(
                "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n udp_preference_limit = 1\n\
                 permitted_enctypes = {enctypes}\n[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
            ),
        )
        .unwrap();
        fs::write(
            dir.join("kdc.conf"),
            format!(
                "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n\
                 [realms]\n {REALM} = {{\n  database_name = {shown}/db\n  key_stash_file = {shown}/stash\n\
                 acl_file = {shown}/acl\n  max_life = 10h\n  supported_enctypes = {}\n\
                 default_principal_flags = +preauth\n }}\n[logging]\n kdc = FILE:{shown}/kdc.log\n",
                enctypes.split(' ').map(|one| format!("{one}:normal")).collect::<Vec<_>>().join(" ")
            ),
        )
        .unwrap();
        run(&dir, "kdb5_util", &["create", "-s", "-r", REALM, "-P", "master"]);
        let child = command(&dir, "krb5kdc")
            .args(["-n", "-r", REALM])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let kdc = Self { dir, port, child };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the KDC does not listen: {}", kdc.log());
            std::thread::yield_now();
        }
        Ok(kdc)
    }

    /// A principal with a random key, which is also in this keytab of the folder.
    pub(super) fn keytab(&self, principal: &str, file: &str) -> PathBuf {
        let path = self.dir.join(file);
        self.admin(&format!("addprinc -randkey {principal}"));
        self.admin(&format!("ktadd -k {} {principal}", path.display()));
        path
    }

    /// One line for the administrator's program.
    pub(super) fn admin(&self, line: &str) {
        run(&self.dir, "kadmin.local", &["-r", REALM, "-q", line]);
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How often it gave a ticket.
    pub(super) fn issued(&self) -> usize {
        self.log().matches("ISSUE").count()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("kdc.log")).unwrap_or_default()
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn find(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps them where users do not look.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let mut found = folders.map(|folder| folder.join(program)).filter(|file| file.is_file());
    found.next().ok_or_else(|| format!("no {program}"))
}

fn command(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(find(program).expect("it was there a moment ago"));
    command.env("KRB5_CONFIG", dir.join("krb5.conf")).env("KRB5_KDC_PROFILE", dir.join("kdc.conf"));
    command
}

fn run(dir: &Path, program: &str, arguments: &[&str]) {
    let output = command(dir, program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("while"), "{program} {arguments:?}: {said}");
}
