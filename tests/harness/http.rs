//! HTTP/1.1, the little that tests need: requests as a receiver reads them, and a GET for the daemon's own endpoints.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// No test sends more.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A request as it was on the wire.
#[derive(Debug)]
pub struct Raw {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers: names in lower case, values in raw bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Raw {
    /// Whether the connection ends with this request.
    pub fn closes(&self) -> bool {
        header(&self.headers, "connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"))
    }
}

/// Reads one request; `None` when the other side closes the connection instead.
pub async fn read_request(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Raw>> {
    let Some(line) = read_line(stream).await? else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&line).into_owned();
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(invalid("not a request line"));
    };
    let mut headers = vec![];
    loop {
        let line = read_line(stream)
            .await?
            .ok_or_else(|| invalid("the head has no end"))?;
        if line.is_empty() {
            break;
        }
        let colon = line
            .iter()
            .position(|b| *b == b':')
            .ok_or_else(|| invalid("no colon"))?;
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    let body = read_body(stream, &headers).await?;
    Ok(Some(Raw {
        method,
        path,
        headers,
        body,
    }))
}

async fn read_body(
    stream: &mut (impl AsyncBufRead + Unpin),
    headers: &[(String, Vec<u8>)],
) -> io::Result<Vec<u8>> {
    if header(headers, "transfer-encoding").is_some() {
        return read_chunks(stream).await;
    }
    let length = header(headers, "content-length").map_or(Ok(0), |v| number(v, 10))?;
    read_exact(stream, length).await
}

async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut body = vec![];
    loop {
        let line = read_line(stream)
            .await?
            .ok_or_else(|| invalid("the body has no end"))?;
        let length = number(&line, 16)?;
        body.extend(read_exact(stream, length).await?);
        read_line(stream).await?;
        if length == 0 {
            return Ok(body);
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(invalid("the body is too long"));
        }
    }
}

async fn read_exact(
    stream: &mut (impl AsyncBufRead + Unpin),
    length: usize,
) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(invalid("the body is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A line without its end; `None` at the end of the stream.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = vec![];
    let read = stream.take(64 * 1024).read_until(b'\n', &mut line).await?;
    while line.last().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        line.pop();
    }
    Ok((read > 0).then_some(line))
}

/// Asks with GET and reads the whole answer: status and body.
pub fn get(address: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(|| invalid("no head"))?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| invalid("no status"))?;
    let body = &answer[end + 4..];
    let chunked = head.contains("transfer-encoding: chunked");
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_vec()
    };
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunk(mut rest: &[u8]) -> io::Result<Vec<u8>> {
    let mut body = vec![];
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .ok_or_else(|| invalid("a chunk"))?;
        let length = number(&rest[..end], 16)?;
        if length == 0 {
            return Ok(body);
        }
        let chunk = rest
            .get(end + 2..end + 2 + length)
            .ok_or_else(|| invalid("a chunk is cut"))?;
        body.extend(chunk);
        rest = rest.get(end + 4 + length..).unwrap_or_default();
    }
}

fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.as_slice())
}

fn number(text: &[u8], radix: u32) -> io::Result<usize> {
    let text = std::str::from_utf8(text)
        .ok()
        .map(|t| t.split(';').next().unwrap_or(t).trim());
    let number = text.and_then(|t| usize::from_str_radix(t, radix).ok());
    number.ok_or_else(|| invalid("not a length"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
