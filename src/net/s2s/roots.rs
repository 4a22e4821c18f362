//! The authorities that we believe: those of the system, and those that the admin adds (`s2s.authorities`).
//!
//! Read at start and when the conf is read anew (SIGHUP), so that a renewed set of the system counts from then on.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::name_of;

/// Why authorities cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the authorities in {}: {why}", path.display())]
pub struct RootsError {
    /// The file that the conf names.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// A set of authorities.
#[derive(Default)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    /// The certificates that the anchors were made of, in the same order: a TLSA record may name one.
    certificates: Vec<CertificateDer<'static>>,
    /// Their subjects (DER).
    subjects: HashSet<Vec<u8>>,
}

impl Roots {
    /// The system's, and those in the PEM file `authorities` if there is one.
    ///
    /// # Errors
    /// The file that the conf names cannot be used. What the system has not, or not well, is left out.
    pub fn load(authorities: Option<&Path>) -> Result<Self, RootsError> {
        let mut roots = Self::default();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // Systems carry oddities; one less root is no reason not to start.
            let _ = roots.add(&certificate);
        }
        if let Some(path) = authorities {
            roots.add_file(path)?;
        }
        Ok(roots)
    }

    /// No authority but those in this file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn only(path: &Path) -> Result<Self, RootsError> {
        let mut roots = Self::default();
        roots.add_file(path)?;
        Ok(roots)
    }

    /// No authority but these certificates (DER); those that cannot be one are left out.
    pub(super) fn of(certificates: &[Vec<u8>]) -> Self {
        let mut roots = Self::default();
        for der in certificates {
            let _ = roots.add(&CertificateDer::from_slice(der));
        }
        roots
    }

    fn add_file(&mut self, path: &Path) -> Result<(), RootsError> {
        let failed = |why: String| RootsError { path: path.to_owned(), why };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("there is no -----BEGIN CERTIFICATE----- in it".to_owned()));
        }
        for (n, certificate) in certificates.iter().enumerate() {
            self.add(certificate).map_err(|why| failed(format!("certificate {} cannot be used: {why}", n + 1)))?;
        }
        Ok(())
    }

    /// Believes one more.
    ///
    /// # Errors
    /// Why it cannot be an authority, in words.
    pub fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|error| error.to_string())?.to_owned();
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        if !self.certificates.iter().any(|other| other == certificate) {
            self.subjects.insert(parsed.subject().as_raw().to_vec());
            self.anchors.push(anchor);
            self.certificates.push(certificate.clone().into_owned());
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether one is called so (a subject's DER).
    pub(super) fn knows(&self, subject: &[u8]) -> bool {
        self.subjects.contains(subject)
    }

    /// The certificate of one of them.
    pub(super) fn certificate_of(&self, anchor: &TrustAnchor<'_>) -> Option<&CertificateDer<'static>> {
        let at = self.anchors.iter().position(|other| other == anchor)?;
        self.certificates.get(at)
    }

    /// What one of them is called.
    pub(super) fn name_of(&self, anchor: &TrustAnchor<'_>) -> String {
        let parsed = self.certificate_of(anchor).and_then(|der| X509Certificate::from_der(der).ok());
        parsed.map_or_else(|| "an authority".to_owned(), |(_, certificate)| name_of(certificate.subject()))
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roots").field("len", &self.len()).finish_non_exhaustive()
    }
}
