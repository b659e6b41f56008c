//! Whose certificate it is: that of one node, or of the whole cluster.
//!
//! A certificate that carries the URI `sawlog://node/3` among its alternative names is node 3's alone; one
//! without such a name may be shown by every node. A URI, and no name of a host: hosts are called `node-3`
//! for reasons of their own, and move.

use rustls::pki_types::CertificateDer;

use crate::base::BrokerId;

/// What the URI of a node begins with.
const NODE: &str = "sawlog://node/";

/// Whatever begins so is meant for us.
const SCHEME: &str = "sawlog:";

/// Who may show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::peer) enum Certified {
    /// Every node: the cluster shares it. Also who has shown none, where none is asked for.
    Anyone,
    /// One node.
    Node(BrokerId),
}

impl Certified {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// What is wrong with its names, as a sentence.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|error| format!("its certificate cannot be read: {error}"))?;
        Self::of_names(parsed.valid_uri_names())
    }

    fn of_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let is_ours = |name: &&str| {
            name.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
        };
        let mut ours = names.filter(is_ours);
        let Some(name) = ours.next() else { return Ok(Self::Anyone) };
        if let Some(second) = ours.next() {
            return Err(format!(
                "its certificate is for {name} and for {second}: it may be for one node, or, without \
                 such a name, for all of them"
            ));
        }
        let digits = name.strip_prefix(NODE).unwrap_or_default();
        let id = digits.parse::<i32>().ok();
        // One way to write a number: neither `+3` nor `03`.
        let id = id.filter(|id| *id >= 0 && id.to_string() == digits);
        id.map(|id| Self::Node(BrokerId(id)))
            .ok_or_else(|| format!("its certificate is for {name}, and nodes are called {NODE}ID"))
    }

    /// Whether `broker` may show it; who has no id yet may.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub(in crate::peer) fn check(self, broker: Option<BrokerId>) -> Result<(), String> {
        match (self, broker) {
            (Self::Node(node), Some(broker)) if node != broker => Err(format!(
                "it calls itself broker {broker}, and its certificate is that of node {node}"
            )),
            (Self::Node(_) | Self::Anyone, _) => Ok(()),
        }
    }

    /// The node, if it is one.
    pub(in crate::peer) fn node(self) -> Option<BrokerId> {
        match self {
            Self::Anyone => None,
            Self::Node(node) => Some(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Certified, String> {
        Certified::of_names(names.iter().copied())
    }

    #[test]
    fn a_certificate_is_one_nodes_or_everybodys() {
        assert_eq!(of(&[]), Ok(Certified::Anyone));
        assert_eq!(of(&["https://example.org/", "spiffe://a/b"]), Ok(Certified::Anyone));
        assert_eq!(of(&["sawlog://node/0"]), Ok(Certified::Node(BrokerId(0))));
        let other = "spiffe://cluster/broker";
        assert_eq!(of(&[other, "sawlog://node/17"]), Ok(Certified::Node(BrokerId(17))));
    }

    #[test]
    fn a_name_that_is_nearly_a_nodes_makes_a_certificate_nobodys() {
        for name in [
            "sawlog:",
            "sawlog://node/",
            "sawlog://node/x",
            "sawlog://node/-1",
            "sawlog://node/+1",
            "sawlog://node/01",
            "sawlog://node/1/",
            "sawlog://node/4294967297",
            "Sawlog://node/1",
            "sawlog://nodes/1",
        ] {
            assert!(of(&[name]).unwrap_err().contains(name), "{name}");
        }
        assert!(of(&["sawlog://node/1", "sawlog://node/2"]).unwrap_err().contains("one node"));
    }

    #[test]
    fn only_its_node_shows_a_nodes_certificate_and_one_that_joins_may_become_it() {
        let three = Certified::Node(BrokerId(3));
        assert_eq!(three.check(Some(BrokerId(3))), Ok(()));
        assert_eq!(three.check(None), Ok(()));
        let text = three.check(Some(BrokerId(2))).unwrap_err();
        assert!(text.contains("broker 2") && text.contains("node 3"), "{text}");
        assert_eq!(Certified::Anyone.check(Some(BrokerId(2))), Ok(()));
    }
}
