//! A conversation in text with the server over a true socket, as either side of it, in the clear or inside TLS. What is said
//! is for the test to make up: there is no rule here that it could not break. The other side's certificate is not looked at.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, DistinguishedName, ServerConfig,
    ServerConnection, SignatureScheme,
};
use tokio::net::TcpStream;

use crate::authority::Identity;

/// Longer than anything the server may take for an answer that a test waits for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Talk {
    tcp: TcpStream,
    tls: Option<Connection>,
    heard: Vec<u8>,
    ended: bool,
}

impl Talk {
    /// A connection to the server.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// A connection that is there.
    pub(crate) fn over(tcp: TcpStream) -> Self {
        tcp.set_nodelay(true).unwrap();
        Self { tcp, tls: None, heard: Vec::new(), ended: false }
    }

    /// The connection, for one who has more to do with it than to talk.
    pub(crate) fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// The handshake as client, asking for this domain, with or without a certificate of our own.
    pub(crate) async fn secure(&mut self, domain: &str, identity: Option<&Identity>, alpn: Option<&str>) {
        let name = ServerName::try_from(domain.to_owned()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous));
        let mut config = match identity {
            Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).into_iter().collect();
        config.resumption = rustls::client::Resumption::disabled();
        self.handshake(ClientConnection::new(Arc::new(config), name).unwrap().into()).await;
    }

    /// The handshake as server, with this certificate.
    pub(crate) async fn secure_as_server(&mut self, identity: &Identity) {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_client_cert_verifier(Arc::new(Credulous));
        let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key()).unwrap();
        config.alpn_protocols = vec![b"xmpp-server".to_vec()];
        self.handshake(ServerConnection::new(Arc::new(config)).unwrap().into()).await;
    }

    async fn handshake(&mut self, mut tls: Connection) {
        // What was read behind the last answer in the clear belongs to TLS.
        let mut early = &std::mem::take(&mut self.heard)[..];
        while !early.is_empty() {
            tls.read_tls(&mut early).unwrap();
            tls.process_new_packets().unwrap();
        }
        self.tls = Some(tls);
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) && !self.ended {
            self.flush().await.unwrap();
            if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                drop(self.receive().await);
            }
        }
        drop(self.flush().await);
    }

    /// Says something; a server that has gone already does not hear it.
    pub(crate) async fn say(&mut self, text: &str) {
        drop(self.try_say(text.as_bytes()).await);
    }

    /// Says something as long as the server takes it.
    pub(crate) async fn try_say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let saying = async {
            for piece in bytes.chunks(16 * 1024) {
                match &mut self.tls {
                    Some(tls) => {
                        tls.writer().write_all(piece)?;
                        self.flush().await?;
                    }
                    None => self.put(piece).await?,
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, saying).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// All up to and with this text.
    pub(crate) async fn hear(&mut self, until: &str) -> String {
        match self.try_hear(until).await {
            Ok(heard) => heard,
            Err(heard) => panic!("in place of {until}: {heard}"),
        }
    }

    /// The same, or what came in its place until the end.
    pub(crate) async fn try_hear(&mut self, until: &str) -> Result<String, String> {
        let hearing = async {
            loop {
                if let Some(at) = self.heard.windows(until.len()).position(|window| window == until.as_bytes()) {
                    let rest = self.heard.split_off(at + until.len());
                    return Ok(text(std::mem::replace(&mut self.heard, rest)));
                }
                if self.ended || self.receive().await.is_err() {
                    return Err(text(std::mem::take(&mut self.heard)));
                }
            }
        };
        match tokio::time::timeout(PATIENCE, hearing).await {
            Ok(heard) => heard,
            Err(_) => panic!("neither {until} nor an end came: {}", text(std::mem::take(&mut self.heard))),
        }
    }

    /// All up to the end of the connection, which must come.
    pub(crate) async fn hear_out(&mut self) -> String {
        let hearing = async { while !self.ended && self.receive().await.is_ok() {} };
        let ended = tokio::time::timeout(PATIENCE, hearing).await;
        let heard = text(std::mem::take(&mut self.heard));
        assert!(ended.is_ok(), "the connection does not end: {heard}");
        heard
    }

    async fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.tcp.writable().await?;
            match self.tcp.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut out)?;
            }
        }
        self.put(&out).await
    }

    /// Takes what comes next.
    async fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = loop {
            self.tcp.readable().await?;
            match self.tcp.try_read(&mut buffer) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        };
        let mut bytes = &buffer[..count];
        self.ended |= count == 0;
        let Some(tls) = &mut self.tls else {
            self.heard.extend_from_slice(bytes);
            return Ok(());
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            if let Err(error) = tls.process_new_packets() {
                self.ended = true;
                drop(self.flush().await);
                return Err(io::Error::other(error));
            }
            loop {
                let mut plain = [0; 16 * 1024];
                match tls.reader().read(&mut plain) {
                    Ok(0) => {
                        self.ended = true;
                        break;
                    }
                    Ok(count) => self.heard.extend_from_slice(&plain[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        self.flush().await
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Believes every certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
