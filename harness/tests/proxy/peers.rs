//! A broker and a client that know frames and no more.
//!
//! The broker answers each request with its correlation id and its body; API 0 with a body that begins with
//! `-` is not answered, as Produce with acks=0. It remembers what it was asked.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const METADATA: i16 = 3;

/// Long enough for a loaded machine; a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a test looks for what must not come.
pub(crate) const GLANCE: Duration = Duration::from_millis(60);

/// A request as the broker saw it: API, correlation id, body.
pub(crate) type Asked = (i16, i32, Vec<u8>);

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// How each connection ended: `Ok` for FIN.
    ended: Arc<Mutex<Vec<Result<(), ErrorKind>>>>,
}

impl Broker {
    /// Serves until the test's process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (asked, ended) = (Arc::default(), Arc::default());
        let broker = Self { address, asked: Arc::clone(&asked), ended: Arc::clone(&ended) };
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (asked, ended) = (Arc::clone(&asked), Arc::clone(&ended));
                let Ok(socket) = socket else { return };
                thread::spawn(move || {
                    let end = serve(socket, &asked).map_err(|error| error.kind());
                    ended.lock().expect("no panic").push(end);
                });
            }
        });
        broker
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// The APIs that it was asked for, in order.
    pub(crate) fn apis(&self) -> Vec<i16> {
        self.asked().into_iter().map(|(api, ..)| api).collect()
    }

    pub(crate) fn ended(&self) -> Vec<Result<(), ErrorKind>> {
        self.ended.lock().expect("no panic").clone()
    }
}

fn serve(mut socket: TcpStream, asked: &Mutex<Vec<Asked>>) -> io::Result<()> {
    while let Some(frame) = read_frame(&mut socket)? {
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let correlation = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let body = frame[8..].to_vec();
        asked.lock().expect("no panic").push((api, correlation, body.clone()));
        if api != PRODUCE || !body.starts_with(b"-") {
            socket.write_all(&response(correlation, &body))?;
        }
    }
    Ok(())
}

/// The next frame without its length; none at the end of the stream, wherever it falls.
fn read_frame(socket: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    match socket.read_exact(&mut frame) {
        Ok(()) => Ok(Some(frame)),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

pub(crate) fn request(api: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&api.to_be_bytes()[..], &[0; 2], &correlation.to_be_bytes(), body].concat())
}

pub(crate) fn response(correlation: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&correlation.to_be_bytes()[..], body].concat())
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the proxy listens")
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self(socket))
    }

    /// How a link ends that is ended as it opens: a client may learn of it while it connects or later.
    pub(crate) fn is_reset(address: SocketAddr) -> Option<ErrorKind> {
        let ended = Self::try_connect(address).and_then(|mut client| client.0.read(&mut [0; 1]));
        ended.err().map(|error| error.kind())
    }

    pub(crate) fn send(&mut self, api: i16, correlation: i32, body: &[u8]) {
        self.0.write_all(&request(api, correlation, body)).expect("the proxy takes it");
    }

    /// The next response: correlation id and body.
    pub(crate) fn receive(&mut self) -> (i32, Vec<u8>) {
        let frame = read_frame(&mut self.0).expect("a response").expect("and no end");
        (i32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]), frame[4..].to_vec())
    }

    /// Asks and gets the answer to that.
    pub(crate) fn ask(&mut self, api: i16, correlation: i32) {
        self.send(api, correlation, b"body");
        assert_eq!(self.receive(), (correlation, b"body".to_vec()));
    }

    /// Nothing comes: no byte, no end.
    pub(crate) fn hears_nothing(&mut self) {
        self.0.set_read_timeout(Some(GLANCE)).expect("a timeout");
        let heard = self.0.read(&mut [0; 1]).map_err(|error| error.kind());
        assert!(matches!(heard, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{heard:?}");
        self.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }

    /// All that comes until the link ends, and how: `Ok` for FIN.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Result<(), ErrorKind>) {
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes).map(drop).map_err(|error| error.kind());
        (bytes, end)
    }

    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).expect("it is open");
    }
}

/// Waits until something is so that no socket tells of.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}
