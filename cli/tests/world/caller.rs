//! Callers: programs that know nothing of meshfed, and never try twice.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a caller waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a caller was told, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub site: String,
    pub instance: String,
}

/// A connection that is held over several requests.
pub struct Held {
    stream: BufReader<TcpStream>,
}

impl Held {
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let stream =
            TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| format!("{address}: connect: {e}"))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a GET and reads the whole answer.
    pub fn ask(&mut self, path: &str) -> Result<Answer, String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).map_err(|e| format!("write: {e}"))?;
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).map_err(|e| format!("read: {e}"))?;
            if read == 0 {
                return Err(format!("the answer broke off after {head:?}"));
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        if !head.first().is_some_and(|line| line.contains(" 200 ")) {
            return Err(format!("{head:?}"));
        }
        let header = |name: &str| {
            head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|e| format!("read: {e}"))?;
        Ok(Answer {
            site: header("x-site").unwrap_or_default(),
            instance: header("x-instance").unwrap_or_default(),
        })
    }
}

/// One request over a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    Held::open(address)?.ask(path).map_err(|error| format!("{address}: {error}"))
}

/// Where a service is, as a DNS server says.
pub fn resolve(server: SocketAddr, service: &str, port: u16) -> Result<SocketAddr, String> {
    let (namespace, name) = service.split_once('/').expect("NAMESPACE/NAME");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let address =
        runtime.block_on(live::dns::resolve(server, &format!("{name}.{namespace}.svc.clusterset.local")))?;
    Ok(SocketAddr::new(address.into(), port))
}

/// Asks a SOCKS5 port for a host by name; gives the code of the reply.
pub fn socks(proxy: SocketAddr, host: &str, port: u16) -> Result<u8, String> {
    let failed = |error: std::io::Error| format!("SOCKS5 {proxy}: {error}");
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(&[5, 1, 0]).map_err(failed)?;
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).map_err(failed)?;
    let length = u8::try_from(host.len()).expect("a short name");
    let mut request = vec![5, 1, 0, 3, length];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).map_err(failed)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).map_err(failed)?;
    Ok(reply[1])
}

/// Asks an HTTP proxy for a tunnel; gives all that it says when it does not make one.
pub fn http_connect(proxy: SocketAddr, authority: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("CONNECT {proxy}: {error}");
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream
        .write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .map_err(failed)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Looks again and again while something else happens, and remembers what was wrong.
#[derive(Default)]
pub struct Watch {
    looks: Mutex<usize>,
    wrong: Mutex<Vec<String>>,
}

/// Most things that a watch remembers.
const WRONG_MAX: usize = 20;

impl Watch {
    /// Runs `deed` while every look of `looks` is repeated in a thread of its own, each every `pause`; fails when one
    /// of them ever saw anything wrong, or never looked.
    #[track_caller]
    pub fn during<T>(
        pause: Duration,
        looks: &[&(dyn Fn() -> Result<(), String> + Sync)],
        deed: impl FnOnce() -> T,
    ) -> T {
        let done = AtomicBool::new(false);
        let watches: Vec<Self> = looks.iter().map(|_| Self::default()).collect();
        let result = std::thread::scope(|scope| {
            for (look, watch) in looks.iter().zip(&watches) {
                scope.spawn(|| watch.run(*look, pause, &done));
            }
            // The looks end also when the deed panics.
            let _ender = Ender(&done);
            deed()
        });
        for watch in watches {
            let wrong = watch.wrong.into_inner().expect("no panic");
            assert!(wrong.is_empty(), "it was seen meanwhile: {wrong:#?}");
            assert!(watch.looks.into_inner().expect("no panic") > 3, "there was hardly a look");
        }
        result
    }

    fn run(&self, look: &(dyn Fn() -> Result<(), String> + Sync), pause: Duration, done: &AtomicBool) {
        let begin = Instant::now();
        while !done.load(Ordering::Relaxed) {
            *self.looks.lock().expect("no panic") += 1;
            if let Err(seen) = look() {
                let mut wrong = self.wrong.lock().expect("no panic");
                if wrong.len() < WRONG_MAX {
                    wrong.push(format!("after {} ms: {seen}", begin.elapsed().as_millis()));
                }
            }
            std::thread::sleep(pause);
        }
    }
}

struct Ender<'a>(&'a AtomicBool);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
