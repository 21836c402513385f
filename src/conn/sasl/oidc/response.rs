//! What an identity provider answered, read with suspicion (RFC 6749, sections 5.1 and 5.2).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::jwt;
use crate::conn::sasl::Token;
use crate::{Error, Result, Secret};

/// An answer with all of its body. What else is in its head does not matter.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Secret,
}

/// How long a token is used that does not tell its end.
const LIFETIME_UNKNOWN: Duration = Duration::from_mins(1);
/// Characters of the provider's own words that are shown.
const WORDS_MAX: usize = 256;

/// The token of a good answer and how long it lives from `now`, or what went wrong. It is retriable if the
/// provider may answer the same request better later. `secrets` are not repeated, even if the provider does.
pub(super) fn read(response: &Response, now: SystemTime, secrets: &[Secret]) -> Result<(Token, Duration)> {
    let body = response.body.expose();
    match response.status {
        200 => granted(body, now),
        300..=399 => Err(Error::auth(format!(
            "the identity provider sends us elsewhere ({}), and redirects are not followed",
            response.status
        ))),
        status => {
            let what = format!("the identity provider answers {status}{}", words(body, secrets));
            // It is busy or broken: these may pass. All else is about us, and would be said again.
            let passing = matches!(status, 408 | 429 | 500 | 502..=504 | 506..=599);
            Err(if passing { Error::io(what) } else { Error::auth(what) })
        }
    }
}

fn granted(body: &[u8], now: SystemTime) -> Result<(Token, Duration)> {
    // The parser's own words would quote what it read.
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
        return Err(Error::auth("the identity provider's answer is no JSON object"));
    };
    // Kafka's client takes an id token where there is no other.
    let value = match fields.remove("access_token").or_else(|| fields.remove("id_token")) {
        Some(Value::String(value)) => Secret::from(value),
        Some(_) => return Err(Error::auth("the identity provider's access_token is no string")),
        None => return Err(Error::auth("the identity provider's answer has no access_token")),
    };
    let lifetime = match fields.get("expires_in") {
        None | Some(Value::Null) => None,
        Some(given) => Some(
            seconds(given)
                .ok_or_else(|| Error::auth("the identity provider's expires_in is no number of seconds"))?,
        ),
    };
    let lifetime = match lifetime {
        Some(lifetime) => lifetime,
        None => match jwt::expiry(value.expose()) {
            Some(end) => (UNIX_EPOCH + end).duration_since(now).unwrap_or_default(),
            None => LIFETIME_UNKNOWN,
        },
    };
    if lifetime.is_zero() {
        return Err(Error::auth(
            "the identity provider's token had ended when it came (or our clock is wrong)",
        ));
    }
    let token = Token::new(value).map_err(|error| error.within("the identity provider's access_token"))?;
    Ok((token.expiring(now + lifetime), lifetime))
}

/// A number of seconds from JSON, a fraction cut off; some providers write it as a string. More than a
/// hundred years are a hundred years, so that times can be added.
pub(super) fn seconds(value: &Value) -> Option<Duration> {
    const MAX: u64 = 100 * 365 * 24 * 3600;
    let given = match value {
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    given.map(|given| Duration::from_secs(given.min(MAX)))
}

/// The error that the provider tells in JSON, escaped and cut. HTML and the like are left out.
fn words(body: &[u8], secrets: &[Secret]) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return String::new() };
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| fields.get(*name).and_then(Value::as_str)).unwrap_or_default()
    };
    // The second names are Okta's.
    let said = [text(["error", "errorCode"]), text(["error_description", "errorSummary"])];
    let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    if said.is_empty() {
        return String::new();
    }
    if secrets.iter().any(|secret| holds(said.as_bytes(), secret.expose())) {
        return ", with words that hold a secret of ours".to_owned();
    }
    let mut shown: String = said.chars().take(WORDS_MAX).flat_map(char::escape_debug).collect();
    if said.chars().nth(WORDS_MAX).is_some() {
        shown.push_str("...");
    }
    format!(": {shown}")
}

fn holds(text: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && text.windows(secret.len()).any(|part| part == secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<(Token, Duration)> {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        read(&Response { status, body: body.into() }, now, &["hunter2".into()])
    }

    /// A token whose payload says that it ends at 1,000,600.
    const JWT: &str = "e30.eyJleHAiOjEwMDA2MDB9.x";

    #[test]
    fn a_token_and_its_lifetime() {
        for (body, seconds) in [
            (r#"{"access_token":"abc","expires_in":3600,"token_type":"Bearer"}"#.to_owned(), 3600),
            (r#"{"access_token":"abc","expires_in":"3600"}"#.to_owned(), 3600),
            (r#"{"access_token":"abc","expires_in":3599.9}"#.to_owned(), 3599),
            (r#"{"access_token":"abc","expires_in":1e300}"#.to_owned(), 3_153_600_000),
            (r#"{"id_token":"abc","expires_in":5}"#.to_owned(), 5),
            (r#"{"access_token":"abc"}"#.to_owned(), 60),
            (r#"{"access_token":"abc","expires_in":null}"#.to_owned(), 60),
            (format!(r#"{{"access_token":"{JWT}"}}"#), 600),
            (format!(r#"{{"access_token":"{JWT}","expires_in":300}}"#), 300),
        ] {
            let (token, lifetime) = answer(200, &body).unwrap();
            assert_eq!(lifetime, Duration::from_secs(seconds), "{body}");
            let ends = UNIX_EPOCH + Duration::from_secs(1_000_000) + lifetime;
            assert_eq!(token.expires(), Some(ends), "{body}");
        }
    }

    #[test]
    fn bad_answers_are_refused_and_not_quoted() {
        for (body, says) in [
            ("", "no JSON object"),
            ("<html>hunter2</html>", "no JSON object"),
            ("[]", "no JSON object"),
            (r#"{"access_token":"abc"} trailing"#, "no JSON object"),
            ("{}", "has no access_token"),
            (r#"{"access_token":7}"#, "is no string"),
            (r#"{"access_token":null}"#, "is no string"),
            (r#"{"access_token":""}"#, "a token of nothing, or with characters"),
            (r#"{"access_token":"a\u0001auth=x"}"#, "with characters"),
            (r#"{"access_token":"abc","expires_in":[1]}"#, "no number of seconds"),
            (r#"{"access_token":"abc","expires_in":-1}"#, "no number of seconds"),
            (r#"{"access_token":"abc","expires_in":"soon"}"#, "no number of seconds"),
            (r#"{"access_token":"abc","expires_in":0}"#, "had ended"),
            (r#"{"access_token":"e30.eyJleHAiOjU5OX0.x"}"#, "had ended"),
        ] {
            let error = answer(200, body).unwrap_err();
            assert!(!error.is_retriable() && !error.to_string().contains("abc"), "{body}: {error}");
            let plain = error.to_string().replace("an OAUTHBEARER token of nothing", "a token of nothing");
            assert!(plain.contains(says), "{body}: {error}");
        }
        let deep = "[".repeat(500_000);
        assert!(answer(200, &deep).unwrap_err().to_string().contains("no JSON object"));
    }

    #[test]
    fn refusals_tell_the_providers_words_escaped_and_cut() {
        for (status, body, retriable, says) in [
            (
                401,
                r#"{"error":"invalid_client","error_description":"who?"}"#,
                false,
                "answers 401: invalid_client: who?",
            ),
            (400, r#"{"errorCode":"E7","errorSummary":"no"}"#, false, "answers 400: E7: no"),
            (400, r#"{"error":{"a":1}}"#, false, "answers 400"),
            (400, "<html>", false, "answers 400"),
            (400, r#"{"error":"a\nb\u001b[31m"}"#, false, "answers 400: a\\nb\\u{1b}[31m"),
            (
                401,
                r#"{"error":"hunter2 is wrong"}"#,
                false,
                "answers 401, with words that hold a secret of ours",
            ),
            (302, "", false, "sends us elsewhere (302), and redirects are not followed"),
            (201, r#"{"access_token":"abc"}"#, false, "answers 201"),
            (501, "", false, "answers 501"),
            (500, "", true, "answers 500"),
            (503, r#"{"error":"busy"}"#, true, "answers 503: busy"),
            (429, "", true, "answers 429"),
        ] {
            let error = answer(status, body).unwrap_err();
            assert_eq!(error.is_retriable(), retriable, "{status} {body}");
            assert!(error.to_string().ends_with(says), "{status} {body}: {error}");
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(100_000));
        let shown = answer(400, &long).unwrap_err().to_string();
        assert!(shown.ends_with(&format!("{}...", "x".repeat(WORDS_MAX))) && shown.len() < 350, "{shown}");
    }
}
