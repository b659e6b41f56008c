//! Why a connection with TLS did not come about, as a sentence for the log of this side.
//!
//! With TLS 1.3 who calls is done with its handshake before the other side has looked at its certificate:
//! a refusal comes as an alert, at the first read.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// Why there is no connection.
#[derive(Debug)]
pub(in crate::peer) enum Failure {
    /// The other side is refused here: why.
    Refused(String),
    /// The other side refuses this broker: why, as far as it says.
    RefusedBy(String),
    /// It ended without a word.
    Lost(io::Error),
}

impl Failure {
    /// What an error of a connection means.
    pub(in crate::peer) fn of(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::AlertReceived(alert)) => Self::RefusedBy(of_alert(*alert)),
            Some(error) => Self::Refused(of_tls(error)),
            None => Self::Lost(error),
        }
    }
}

/// Why the other side is refused.
fn of_tls(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "it shows no certificate; brokers of this cluster have one (peer.tls.certificate.file)"
                .to_owned()
        }
        Error::InvalidCertificate(error) => of_certificate("its certificate", error),
        Error::InvalidMessage(_) => {
            "it does not speak TLS; start it with peer.tls.certificate.file, \
             peer.tls.key.file and peer.tls.ca.file, as this broker is"
                .to_owned()
        }
        Error::PeerIncompatible(_) => {
            format!("it does not speak TLS 1.3 as this broker does: {error}")
        }
        error => format!("TLS with it fails: {error}"),
    }
}

/// What is wrong with `whose` certificate.
pub(super) fn of_certificate(whose: &str, error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => format!("{whose} has expired; renew it"),
        E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("{whose} is not valid yet; compare the clocks of both machines")
        }
        // Also where another authority has the same name.
        E::UnknownIssuer | E::BadSignature => {
            format!("{whose} is not signed by an authority in peer.tls.ca.file")
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => format!(
            "{whose} is not made for both ends of a connection; its extended key usage has to be \
             serverAuth and clientAuth, or none"
        ),
        E::Other(error) if is_an_authority(error) => format!(
            "{whose} is that of an authority; a broker has one of its own, with the basic constraint \
             CA:FALSE"
        ),
        error => format!("{whose} cannot be used: {error}"),
    }
}

fn is_an_authority(error: &OtherError) -> bool {
    error.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// What the other side says against this broker.
fn of_alert(alert: AlertDescription) -> String {
    use AlertDescription as A;
    match alert {
        // The second where an authority of the same name has.
        A::UnknownCA | A::DecryptError => {
            "no authority in its peer.tls.ca.file has signed the certificate of this broker"
                .to_owned()
        }
        A::CertificateExpired => {
            "the certificate of this broker has expired, or is not valid yet, by \
             the clock over there"
                .to_owned()
        }
        A::CertificateRequired => {
            "it asks for a certificate, and this broker shows none".to_owned()
        }
        A::UnsupportedCertificate => {
            "the certificate of this broker is not made for both ends of a \
             connection; its extended key usage has to be serverAuth and clientAuth, or none"
                .to_owned()
        }
        A::BadCertificate | A::CertificateUnknown | A::CertificateRevoked | A::AccessDenied => {
            format!("it does not accept the certificate of this broker ({alert:?})")
        }
        alert => format!("it does not go on with TLS ({alert:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: Error) -> Failure {
        Failure::of(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn who_refuses_whom_is_told_apart_from_a_connection_that_was_lost() {
        let alert = of(Error::AlertReceived(AlertDescription::UnknownCA));
        assert!(matches!(alert, Failure::RefusedBy(text) if text.contains("peer.tls.ca.file")));
        let theirs = of(Error::InvalidCertificate(CertificateError::Expired));
        assert!(matches!(theirs, Failure::Refused(text) if text.contains("has expired")));
        let lost = Failure::of(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(lost, Failure::Lost(_)));
    }
}
