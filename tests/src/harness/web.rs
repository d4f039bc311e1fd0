//! A folder's files over HTTP, until the test ends.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

/// Whatever lies in the folder when it is asked for; 503 for anything else.
pub fn serve(folder: &Path) -> Result<SocketAddr> {
    let (listener, folder) = (TcpListener::bind(("127.0.0.1", 0))?, folder.to_owned());
    let address = listener.local_addr()?;
    thread::spawn(move || {
        // A connection that fails is tried again.
        listener.incoming().flatten().for_each(|connection| _ = answer(connection, &folder));
    });
    Ok(address)
}

fn answer(mut connection: TcpStream, folder: &Path) -> Result<()> {
    let mut request = String::new();
    let mut lines = BufReader::new(connection.try_clone()?);
    while lines.read_line(&mut request)? > 2 {}
    let name = request.split([' ', '/', '?']).nth(2).context("a name")?;
    let Ok(body) = std::fs::read(folder.join(name)) else {
        return Ok(write!(connection, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?);
    };
    write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    Ok(connection.write_all(&body)?)
}
