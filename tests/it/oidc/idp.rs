//! An identity provider on a loopback port, which answers as it is told and remembers what it was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it does with a request.
#[derive(Clone)]
pub(super) enum Answer {
    /// These bytes, then the end.
    Bytes(String),
    /// A pause, then these bytes.
    Late(Duration, String),
    /// These bytes once, then these others without an end.
    Endless(String, String),
    /// A byte now and then, without an end.
    Drip,
    /// The end at once.
    Hangup,
}

/// A good answer with a token.
pub(super) fn token(value: &str, seconds: u64) -> Answer {
    Answer::Bytes(http("200 OK", &format!(r#"{{"access_token":"{value}","expires_in":{seconds}}}"#)))
}

/// An answer with a status and a body.
pub(super) fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The provider. It ends with the test's runtime.
pub(super) struct Idp {
    pub(super) port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Idp {
    /// One that gives these answers in turn, and the last of them for ever.
    pub(super) async fn start(answers: Vec<Answer>) -> Self {
        Self::start_with(answers, None).await
    }

    /// The same, behind TLS.
    pub(super) async fn start_with(answers: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, turn) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let turn = turn.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (answer, seen) = (answers[turn].clone(), Arc::clone(&seen));
                match tls.clone() {
                    None => drop(tokio::spawn(serve(stream, answer, seen))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answer, seen).await;
                        }
                    })),
                }
            }
        });
        Self { port, asked }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token?p=x", self.port)
    }

    /// The requests so far, head and body as they came.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let Some(request) = read_request(&mut stream).await else { return };
    seen.lock().unwrap().push(request);
    // The client may hang up at any time; that is what some tests want.
    let _ = match answer {
        Answer::Bytes(bytes) => stream.write_all(bytes.as_bytes()).await,
        Answer::Late(pause, bytes) => {
            tokio::time::sleep(pause).await;
            stream.write_all(bytes.as_bytes()).await
        }
        Answer::Endless(head, more) => {
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(more.as_bytes()).await;
            }
            sent
        }
        Answer::Drip => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await;
            while sent.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                sent = stream.write_all(b"x").await;
            }
            sent
        }
        Answer::Hangup => Ok(()),
    };
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length.parse() == Ok(body.len())) {
            return Some(text.into_owned());
        }
    }
}
