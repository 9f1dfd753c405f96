//! The first line that a plugin prints: where it can be reached.
//!
//! Pure. The form is that of HashiCorp's go-plugin: `1|1|unix|/run/plugin.sock|grpc`.

use std::net::SocketAddr;

use super::cut;

/// How much of a line a message quotes.
const QUOTED: usize = 200;

/// Where a plugin can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket, by its absolute path.
    Unix(String),
    /// A port of this machine.
    Tcp(SocketAddr),
}

impl Address {
    /// The address as tonic takes it.
    pub(super) fn uri(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix://{path}"),
            Self::Tcp(address) => format!("http://{address}"),
        }
    }
}

/// Reads a greeting.
///
/// # Errors
/// What is wrong with it, with the line.
pub(super) fn read(line: &str) -> Result<Address, String> {
    let line = line.trim_end();
    address(line).map_err(|fault| {
        let form = "it must be like 1|1|unix|/path/to/socket|grpc, or 1|1|tcp|127.0.0.1:port|grpc";
        format!("its first line is {}: {fault}; {form}", cut(&format!("{line:?}"), QUOTED))
    })
}

fn address(line: &str) -> Result<Address, &'static str> {
    let parts: Vec<&str> = line.split('|').collect();
    let [core, app, network, address, protocol, more @ ..] = parts.as_slice() else {
        return Err("that is no greeting");
    };
    if *core != "1" {
        return Err("the first part, the version of the handshake, is not 1");
    }
    if *app != "1" {
        return Err("the second part, the version of the protocol, is not 1");
    }
    if *protocol != "grpc" {
        return Err("the fifth part, the protocol, is not grpc");
    }
    // go-plugin writes a certificate here when it was asked for TLS, and nothing otherwise.
    if more.iter().any(|part| !part.is_empty()) {
        return Err("there is more behind the fifth part, and nobody asked for TLS");
    }
    match *network {
        "unix" if address.starts_with('/') => Ok(Address::Unix((*address).to_owned())),
        "unix" => Err("the fourth part is not an absolute path"),
        "tcp" => {
            let address: SocketAddr = address.parse().map_err(|_| "the fourth part is not address:port")?;
            let is_ours = address.ip().is_loopback();
            if is_ours { Ok(Address::Tcp(address)) } else { Err("it can be reached from other machines") }
        }
        _ => Err("the third part, the network, is neither unix nor tcp"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_says_where_the_plugin_is() {
        let unix = read("1|1|unix|/tmp/a b.sock|grpc\r\n").unwrap();
        assert_eq!(unix.uri(), "unix:///tmp/a b.sock");
        assert_eq!(read("1|1|tcp|127.0.0.1:4000|grpc|\n").unwrap().uri(), "http://127.0.0.1:4000");
        assert_eq!(read("1|1|tcp|[::1]:4000|grpc").unwrap().uri(), "http://[::1]:4000");
    }

    #[test]
    fn any_other_line_is_refused_with_the_line_and_what_is_wrong() {
        for (line, said) in [
            ("", "that is no greeting"),
            ("Listening on port 80", "that is no greeting"),
            ("2|1|unix|/p|grpc", "the version of the handshake"),
            ("1|2|unix|/p|grpc", "the version of the protocol"),
            ("1|1|unix|/p|netrpc", "is not grpc"),
            ("1|1|unix|p|grpc", "is not an absolute path"),
            ("1|1|pipe|/p|grpc", "neither unix nor tcp"),
            ("1|1|tcp|localhost:1|grpc", "is not address:port"),
            ("1|1|tcp|0.0.0.0:1|grpc", "from other machines"),
            ("1|1|tcp|10.0.0.1:1|grpc", "from other machines"),
            ("1|1|unix|/p|grpc|MIIB", "nobody asked for TLS"),
        ] {
            let fault = read(line).unwrap_err();
            assert!(fault.starts_with(&format!("its first line is {line:?}: ")), "{fault}");
            assert!(fault.contains(said), "{fault}");
        }
        let fault = read(&"x".repeat(10_000)).unwrap_err();
        assert!(fault.len() < 500, "{fault}");
    }
}
