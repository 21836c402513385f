//! What the secured listeners want from a broker: certificates, users, tokens, Kerberos.
//!
//! Pure text again, but for the files that are written before the first start.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::plan::Plan;
use crate::certs::{Certificates, Identity, KEY_PASSWORD};
use crate::failure::{Result, broken};
use crate::listener::{Listener, Mechanism};

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    /// Names and passwords.
    pub(crate) users: Vec<(String, String)>,
    /// Which certificate the brokers show.
    pub(crate) identity: Identity,
    /// Whose tokens are taken. Without it: unsigned ones of anybody.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) kerberos: Option<Kerberos>,
}

/// The rules for bearer tokens.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) jwks_url: String,
    pub(crate) issuer: String,
    pub(crate) audience: String,
}

/// What a broker needs to take part in a realm.
#[derive(Debug, Clone)]
pub(crate) struct Kerberos {
    pub(crate) config: PathBuf,
    pub(crate) keytab: PathBuf,
    pub(crate) principal: String,
}

/// Where the stores lie, and of which kind they are.
#[derive(Debug)]
pub(crate) struct Stores {
    kind: &'static str,
    keys: PathBuf,
    trust: PathBuf,
}

impl Default for Security {
    fn default() -> Self {
        Self { users: Vec::new(), identity: Identity::Server, tokens: None, kerberos: None }
    }
}

impl Stores {
    /// Certificates in the form that the release takes.
    pub(crate) fn make(plan: &Plan, certificates: &Certificates) -> Result<Self> {
        let identity = plan.security.identity;
        // PEM stores came with 2.7 (KIP-651), but at first only with a key in PBES1, which nobody should write.
        if plan.version.at_least(3, 5) {
            let keys = certificates.pem_store(identity)?;
            return Ok(Self { kind: "PEM", keys, trust: certificates.authority() });
        }
        let (keys, trust) = certificates.java_stores(identity, &plan.dir)?;
        Ok(Self { kind: "PKCS12", keys, trust })
    }

    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for (store, path) in [("keystore", &self.keys), ("truststore", &self.trust)] {
            lines.push((format!("ssl.{store}.type"), self.kind.to_owned()));
            lines.push((format!("ssl.{store}.location"), path.display().to_string()));
            // A PEM file without encryption has no password, and none may be given.
            if self.kind != "PEM" {
                lines.push((format!("ssl.{store}.password"), KEY_PASSWORD.to_owned()));
            }
        }
        if self.kind != "PEM" {
            lines.push(("ssl.key.password".to_owned(), KEY_PASSWORD.to_owned()));
        }
        lines
    }
}

/// The lines of `server.properties` for all secured listeners.
pub(crate) fn lines(plan: &Plan) -> Vec<(String, String)> {
    let mut lines = plan.stores.as_ref().map(Stores::lines).unwrap_or_default();
    for listener in &plan.listeners {
        let prefix = format!("listener.name.{}", listener.name().to_lowercase());
        if listener.transport == crate::Transport::Mtls {
            lines.push((format!("{prefix}.ssl.client.auth"), "required".to_owned()));
        }
        if let Some(mechanism) = listener.mechanism {
            lines.push((format!("{prefix}.sasl.enabled.mechanisms"), mechanism.name().to_owned()));
        }
        match (listener.mechanism, &plan.security.tokens) {
            (Some(Mechanism::OauthBearer), Some(tokens)) => lines.extend(token_lines(plan, &prefix, tokens)),
            (Some(Mechanism::Gssapi), _) => {
                lines.push((format!("{prefix}.sasl.kerberos.service.name"), "kafka".to_owned()));
            }
            _ => {}
        }
    }
    let mut all: Vec<_> = plan.listeners.iter().filter_map(|l| l.mechanism).map(Mechanism::name).collect();
    all.dedup();
    if !all.is_empty() {
        lines.push(("sasl.enabled.mechanisms".to_owned(), all.join(",")));
    }
    lines
}

/// Kafka's own validator (KIP-768), which moved to another package in 4.0.
fn token_lines(plan: &Plan, prefix: &str, tokens: &Tokens) -> [(String, String); 4] {
    let package = "org.apache.kafka.common.security.oauthbearer";
    let secured = if plan.version.at_least(4, 0) { "" } else { ".secured" };
    [
        (
            format!("{prefix}.oauthbearer.sasl.server.callback.handler.class"),
            format!("{package}{secured}.OAuthBearerValidatorCallbackHandler"),
        ),
        (format!("{prefix}.sasl.oauthbearer.jwks.endpoint.url"), tokens.jwks_url.clone()),
        (format!("{prefix}.sasl.oauthbearer.expected.issuer"), tokens.issuer.clone()),
        (format!("{prefix}.sasl.oauthbearer.expected.audience"), tokens.audience.clone()),
    ]
}

/// The file for `java.security.auth.login.config`: one section a listener, which every release since 0.10.2
/// reads; in `server.properties` they could stand only from 1.1 on.
pub(crate) fn jaas(plan: &Plan) -> String {
    let sections = plan.listeners.iter().filter_map(|listener| Some((listener, listener.mechanism?)));
    sections.fold(String::new(), |mut text, (listener, mechanism)| {
        let _ = writeln!(
            text,
            "{}.KafkaServer {{\n  {};\n}};",
            listener.name().to_lowercase(),
            login_module(&plan.security, mechanism)
        );
        text
    })
}

fn login_module(security: &Security, mechanism: Mechanism) -> String {
    const COMMON: &str = "org.apache.kafka.common.security";
    match mechanism {
        Mechanism::Plain => {
            let mut module = format!("{COMMON}.plain.PlainLoginModule required");
            for (name, password) in &security.users {
                let _ = write!(module, "\n  user_{name}=\"{password}\"");
            }
            module
        }
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            format!("{COMMON}.scram.ScramLoginModule required")
        }
        Mechanism::OauthBearer => format!("{COMMON}.oauthbearer.OAuthBearerLoginModule required"),
        Mechanism::Gssapi => {
            let (keytab, principal) = security
                .kerberos
                .as_ref()
                .map(|kerberos| (kerberos.keytab.display().to_string(), kerberos.principal.as_str()))
                .unwrap_or_default();
            format!(
                "com.sun.security.auth.module.Krb5LoginModule required\n  useKeyTab=true storeKey=true \
                 keyTab=\"{keytab}\"\n  principal=\"{principal}\""
            )
        }
    }
}

/// What the Java of a broker must be told beside its properties.
pub(crate) fn java_flags(plan: &Plan) -> Vec<String> {
    let mut flags = Vec::new();
    if plan.has_sasl(|_| true) {
        flags.push(format!("-Djava.security.auth.login.config={}", jaas_file(&plan.dir).display()));
    }
    if let Some(kerberos) = &plan.security.kerberos {
        flags.push(format!("-Djava.security.krb5.conf={}", kerberos.config.display()));
    }
    if let Some(tokens) = &plan.security.tokens {
        // Since 3.9.1 an endpoint must be allowed by name (CVE-2025-27817).
        flags.push(format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", tokens.jwks_url));
    }
    flags
}

/// The SCRAM users for both mechanisms, as `StorageTool format` takes them.
pub(crate) fn scram_arguments(plan: &Plan) -> Vec<String> {
    let mut arguments = Vec::new();
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        if plan.has_sasl(|wanted| wanted == mechanism) {
            for (name, password) in &plan.security.users {
                let user = format!("{}=[name={name},password={password}]", mechanism.name());
                arguments.extend(["--add-scram".to_owned(), user]);
            }
        }
    }
    arguments
}

/// The same for `ConfigCommand`: one run a user.
pub(crate) fn scram_configs(plan: &Plan) -> Vec<(String, String)> {
    let mechanisms: Vec<_> = [Mechanism::ScramSha256, Mechanism::ScramSha512]
        .into_iter()
        .filter(|mechanism| plan.has_sasl(|wanted| wanted == *mechanism))
        .collect();
    let config = |password: &str| {
        let all = mechanisms.iter().map(|mechanism| format!("{}=[password={password}]", mechanism.name()));
        all.collect::<Vec<_>>().join(",")
    };
    if mechanisms.is_empty() {
        return Vec::new();
    }
    plan.security.users.iter().map(|(name, password)| (name.clone(), config(password))).collect()
}

pub(crate) fn write_jaas(plan: &Plan) -> Result<()> {
    let file = jaas_file(&plan.dir);
    fs::write(&file, jaas(plan)).map_err(broken(file.display()))
}

fn jaas_file(dir: &Path) -> PathBuf {
    dir.join("jaas.conf")
}

/// Whether any of them needs certificates.
pub(crate) fn want_certificates(listeners: &[Listener]) -> bool {
    listeners.iter().any(|listener| listener.is_tls())
}
