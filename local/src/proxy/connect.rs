//! HTTP CONNECT (RFC 9110, section 9.3.6).

use super::{Trouble, read, write};
use crate::names::{NameTable, NotServed, Target};
use bytes::Bytes;
use model::decision::{Refusal, RefusalCode};
use tokio::net::TcpStream;

/// Reads a request, and answers all that can be answered here.
pub(super) async fn request(
    stream: &mut TcpStream,
    names: &NameTable,
    head_max: usize,
) -> Result<Target, Trouble> {
    let Some(head) = read::head(stream, head_max).await? else {
        write(
            stream,
            &reply("431 Request Header Fields Too Large", "", "the head of the request is too long"),
        )
        .await?;
        return Err(Trouble::Protocol("the head of the request is too long"));
    };
    match parse(&head) {
        Ok((host, port)) => match names.target(host, port) {
            Ok(target) => Ok(target),
            Err(not_served) => {
                write(stream, &reply(status_of(&not_served), "", &not_served.to_string())).await?;
                Err(Trouble::NotServed(not_served))
            }
        },
        Err((status, reason)) => {
            let allow = if status.starts_with("405") { "Allow: CONNECT\r\n" } else { "" };
            write(stream, &reply(status, allow, reason)).await?;
            Err(Trouble::Protocol(reason))
        }
    }
}

/// Finds host and port in the request line; the rest of the head says nothing that matters.
fn parse(head: &[u8]) -> Result<(&str, u16), (&'static str, &'static str)> {
    const BAD: &str = "400 Bad Request";
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| (BAD, "the request line is not text"))?;
    let mut words = line.split(' ');
    let (Some(method), Some(authority), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err((BAD, "the request line is not METHOD TARGET VERSION"));
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(("505 HTTP Version Not Supported", "only HTTP/1.1 is served"));
    }
    if method != "CONNECT" {
        return Err((
            "405 Method Not Allowed",
            "only CONNECT is served; with curl add --proxytunnel, or use --socks5-hostname",
        ));
    }
    let form = (BAD, "the target of CONNECT is not HOST:PORT");
    let (host, port) = authority.rsplit_once(':').ok_or(form)?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or(form)?;
    if host.is_empty() || host.len() > 253 + 1 {
        return Err(form);
    }
    Ok((host, port))
}

fn status_of(not_served: &NotServed) -> &'static str {
    match not_served {
        NotServed::Foreign { .. } => "403 Forbidden",
        NotServed::UnknownVip { .. } | NotServed::UnknownInstance { .. } => "502 Bad Gateway",
        NotServed::Malformed { .. } | NotServed::NoPort { .. } => "400 Bad Request",
    }
}

pub(super) fn granted() -> Bytes {
    Bytes::from_static(b"HTTP/1.1 200 Connection Established\r\n\r\n")
}

pub(super) fn refused(refusal: &Refusal) -> Bytes {
    let status = match refusal.code {
        RefusalCode::Denied => "403 Forbidden",
        RefusalCode::UnknownService | RefusalCode::UnknownPort => "502 Bad Gateway",
        RefusalCode::NoEndpoint | RefusalCode::Draining | RefusalCode::Overloaded => {
            "503 Service Unavailable"
        }
        RefusalCode::NoPath => "504 Gateway Timeout",
        RefusalCode::EndpointFailed | RefusalCode::BadHeader | RefusalCode::TooManyHops => "502 Bad Gateway",
    };
    let detail: String = refusal.detail.chars().filter(|c| !c.is_control()).take(200).collect();
    reply(status, "", &format!("{}: {detail}", refusal.code))
}

/// A reply with its reason as text, after which the connection ends.
fn reply(status: &str, header: &str, reason: &str) -> Bytes {
    let body = format!("meshfed: {reason}\n");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n{header}\r\n{body}",
        body.len()
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_line_is_read_strictly() {
        let read = |line: &str| {
            parse(format!("{line}\r\nHost: x\r\n\r\n").as_bytes()).map(|(h, p)| (h.to_owned(), p))
        };
        assert_eq!(read("CONNECT a.b:80 HTTP/1.1"), Ok(("a.b".to_owned(), 80)));
        for (line, status) in [
            ("GET http://a.b/ HTTP/1.1", "405"),
            ("CONNECT a.b HTTP/1.1", "400"),
            ("CONNECT a.b: HTTP/1.1", "400"),
            ("CONNECT a.b:+80 HTTP/1.1", "400"),
            ("CONNECT a.b:65536 HTTP/1.1", "400"),
            ("CONNECT :80 HTTP/1.1", "400"),
            ("CONNECT  a.b:80 HTTP/1.1", "400"),
            ("CONNECT a.b:80", "400"),
            ("CONNECT a.b:80 HTTP/2.0", "505"),
            ("", "400"),
        ] {
            assert!(read(line).expect_err(line).0.starts_with(status), "{line}");
        }
        assert!(parse(b"CONNECT \xff:80 HTTP/1.1\r\n\r\n").is_err());
    }
}
