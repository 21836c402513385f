//! Our SASL mechanisms against the servers in Kafka's own classes, as brokers run them: what they take, and
//! what they do not.

use std::io::{BufRead as _, Write as _};

use weir::conn::sasl::{Mechanism, OAuthBearer, Peer, Plain, Scram, Token};
use weir::{Error, Result};

use super::VERSIONS;
use super::java::{Program, java};

const USER: &str = "a=b,c";
/// With a space and letters that `SASLprep` would replace; Kafka does not.
const PASSWORD: &str = "p\u{c4}ss\u{a0}w\u{2168}rd, =";
const TOKEN_ID: &str = "MTIzNDU2Nzg5MDEyMzQ1Ng";
const TOKEN_HMAC: &str = "9Z2k+/hMac==";
const BEARER: &str = "eyJ0.eyJz-_.c2ln~+/==";

/// The servers of one version of Kafka.
struct Servers {
    program: Program,
    input: std::io::BufWriter<std::process::ChildStdin>,
}

impl Servers {
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).expect("Java reads");
        let mut answer = String::new();
        self.program.from.read_line(&mut answer).expect("Java answers");
        answer.trim_end_matches('\n').to_owned()
    }

    /// One authentication, to its end. The error is the server's, or ours about the server.
    async fn authenticate(&mut self, mechanism: &dyn Mechanism) -> Result<()> {
        let peer = Peer { host: "localhost".to_owned(), port: 9092, encrypted: true };
        assert_eq!(self.ask(&format!("begin {}", mechanism.name())), "ok");
        let mut session = mechanism.begin(&peer).await?;
        let mut said = session.respond(None).await?.expect("a first token");
        loop {
            let answer = self.ask(&format!("token {}", to_hex(said.expose())));
            let (kind, rest) = answer.split_once(' ').expect("a kind and what was said");
            if kind == "error" {
                return Err(Error::authentication(rest));
            }
            let Some(next) = session.respond(Some(&from_hex(rest))).await? else {
                assert_eq!(kind, "done", "we are done, so the server must be");
                return Ok(());
            };
            said = next;
        }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|n| char::from_digit(n.into(), 16))
        .collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn kafkas_servers_take_what_is_right_and_nothing_else() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for version in VERSIONS {
        let Some(java) = java(version, "SASL") else { continue };
        let users = [USER, PASSWORD, TOKEN_ID, TOKEN_HMAC, BEARER].map(|text| to_hex(text.as_bytes()));
        let mut program = java.start("Sasl", &users.each_ref().map(String::as_str));
        let input = program.input();
        let mut servers = Servers { program, input };
        runtime.block_on(check(&mut servers));
        let Servers { program, input } = servers;
        drop(input);
        program.end();
    }
}

async fn check(servers: &mut Servers) {
    let bearer = || Token::new(BEARER).expect("a token");
    let extended = bearer().extension("traceId", "a b=c,d").expect("an extension");
    let sha256 = Scram::sha256(USER, PASSWORD).expect("a user");
    let right: [&dyn Mechanism; 8] = [
        &Plain::new(USER, PASSWORD).expect("a user"),
        &sha256,
        // Once more, with another salt: Java's credential is made anew each time.
        &sha256,
        &Scram::sha512(USER, PASSWORD).expect("a user"),
        &Scram::sha256(TOKEN_ID, TOKEN_HMAC).expect("a token").delegation_token(),
        &Scram::sha512(TOKEN_ID, TOKEN_HMAC).expect("a token").delegation_token(),
        &OAuthBearer::new(bearer()),
        &OAuthBearer::new(extended),
    ];
    for mechanism in right {
        servers.authenticate(mechanism).await.unwrap_or_else(|error| panic!("{mechanism:?}: {error}"));
    }
    let wrong: [(&dyn Mechanism, &str); 7] = [
        (&Plain::new(USER, "wrong").expect("a user"), "Invalid username or password"),
        (&Plain::new("nobody", PASSWORD).expect("a user"), "Invalid username or password"),
        (&Scram::sha256(USER, "wrong").expect("a user"), "Invalid client credentials"),
        (&Scram::sha512("nobody", PASSWORD).expect("a user"), "Invalid user credentials"),
        // A user is no token, and a token no user.
        (&Scram::sha256(USER, PASSWORD).expect("a user").delegation_token(), "Invalid user credentials"),
        (&Scram::sha256(TOKEN_ID, TOKEN_HMAC).expect("a token"), "Invalid user credentials"),
        // The server says why, hears that it was understood, and fails.
        (
            &OAuthBearer::new(Token::new("other").expect("a token")),
            r#"{"status":"invalid_token", "scope":"scope"}"#,
        ),
    ];
    for (mechanism, why) in wrong {
        let error = servers.authenticate(mechanism).await.expect_err("it is wrong");
        assert!(error.to_string().contains(why), "{mechanism:?}: {error}");
    }
}
