//! The tables of conditions: RFC 6120 §4.9.3 (streams), §8.3.3 (stanzas), §6.5 (SASL).

use std::fmt;

/// Declares an enum of conditions from a table: variant, name on the wire, meaning, and notes for the implementer.
macro_rules! conditions {
    ($(#[$meta:meta])* $name:ident { $($variant:ident $wire:literal $meaning:literal $(, note $note:literal)* ;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $wire, "`: ", $meaning)] $(#[doc = ""] #[doc = $note])* $variant,)*
        }

        impl $name {
            /// Every condition, in the order of the RFC.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The element's name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }

            /// What the condition means, one sentence in the RFC's words; fit for a log.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// The condition of this name, if the RFC defines one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

conditions! {
    /// Why a stream is closed (RFC 6120 §4.9.3). Stream errors cannot be recovered from.
    StreamCondition {
        BadFormat "bad-format"
            "the entity has sent XML that cannot be processed.",
            note "A more specific condition (bad-namespace-prefix, invalid-xml, not-well-formed, restricted-xml, unsupported-encoding) is preferred.";
        BadNamespacePrefix "bad-namespace-prefix"
            "the entity has sent a namespace prefix that is unsupported, or no prefix on an element that needs one.";
        Conflict "conflict"
            "a new stream for this entity conflicts with the existing stream, or the existing stream was closed in its favour.",
            note "A client that is closed so should not reconnect at once: two clients with one resource would throw each other out for ever.";
        ConnectionTimeout "connection-timeout"
            "one party believes that the other has permanently lost the ability to communicate over the stream.";
        HostGone "host-gone"
            "the 'to' of the initial stream header is an FQDN that is no longer serviced by the receiving entity.";
        HostUnknown "host-unknown"
            "the 'to' of the initial stream header is not an FQDN that is serviced by the receiving entity.";
        ImproperAddressing "improper-addressing"
            "a stanza sent between two servers lacks a 'to' or 'from' attribute, or its value is no JID.";
        InternalServerError "internal-server-error"
            "the server has experienced a misconfiguration or other internal error and cannot service the stream.";
        InvalidFrom "invalid-from"
            "the 'from' attribute does not match an authorized JID or validated domain.";
        InvalidNamespace "invalid-namespace"
            "the stream namespace is not the one of streams, or the content namespace is not supported.";
        InvalidXml "invalid-xml"
            "the entity has sent invalid XML to a server that validates.";
        NotAuthorized "not-authorized"
            "the entity has sent XML stanzas before the stream was authenticated, or is not authorized to do what it asks.",
            note "The offending data is not processed before the error is sent.";
        NotWellFormed "not-well-formed"
            "the entity has sent XML that violates the well-formedness rules of XML or XML namespaces.";
        PolicyViolation "policy-violation"
            "the entity has violated some local service policy, such as the size of a stanza.",
            note "The policy, when it is told at all, is told in an application-specific condition or in the text.";
        RemoteConnectionFailed "remote-connection-failed"
            "the server is unable to connect to a remote entity that is needed for authentication or authorization.",
            note "Not for the delivery of stanzas: there it is the stanza error remote-server-not-found or -timeout.";
        Reset "reset"
            "the server is closing the stream because it has new features to offer, or keys or certificates to replace.";
        ResourceConstraint "resource-constraint"
            "the server lacks the system resources that are necessary to service the stream.";
        RestrictedXml "restricted-xml"
            "the entity has attempted to send a comment, processing instruction, DTD subset or entity reference (RFC 6120 §11.1).";
        SeeOtherHost "see-other-host"
            "the server will not provide service to the initiating entity but redirects it to another host.",
            note "Security: before TLS this is a man in the middle's word. The other host has to prove the name of the first; and redirects are counted, lest they circle.";
        SystemShutdown "system-shutdown"
            "the server is being shut down and all active streams are being closed.";
        UndefinedCondition "undefined-condition"
            "the error condition is not among the others; only with an application-specific condition.";
        UnsupportedEncoding "unsupported-encoding"
            "the stream is encoded in something other than UTF-8, or begins with a byte order mark of another encoding.";
        UnsupportedFeature "unsupported-feature"
            "the receiving entity has advertised a mandatory stream feature that the initiating entity does not support.";
        UnsupportedStanzaType "unsupported-stanza-type"
            "a first-level child of the stream is not supported by the server.";
        UnsupportedVersion "unsupported-version"
            "the 'version' in the stream header is a version of XMPP that the server does not support.";
    }
}

conditions! {
    /// Why a stanza was not processed (RFC 6120 §8.3.3).
    Condition {
        BadRequest "bad-request"
            "the sender has sent a stanza that is malformed or that cannot be processed.";
        Conflict "conflict"
            "access cannot be granted because an existing resource exists with the same name or address.";
        FeatureNotImplemented "feature-not-implemented"
            "the feature represented in the stanza is not implemented by the intended recipient or server.";
        Forbidden "forbidden"
            "the requesting entity does not have the permissions to perform an action that only certain entities may.",
            note "Security: reveals that the thing exists; item-not-found does not.";
        Gone "gone"
            "the recipient or server can no longer be contacted at this address, permanently.",
            note "The new address, if any, is the element's text. Security: a client must ask its user before it follows, and only if the word comes from the entity's server.";
        InternalServerError "internal-server-error"
            "the server has experienced a misconfiguration or other internal error.";
        ItemNotFound "item-not-found"
            "the addressed JID or item requested cannot be found.",
            note "Security: must not be returned if it would reveal the presence of the recipient to one who may not know; then it is service-unavailable.";
        JidMalformed "jid-malformed"
            "the sender has provided an address that violates the rules for XMPP addresses (RFC 7622).";
        NotAcceptable "not-acceptable"
            "the recipient or server understands the request but cannot process it because it does not meet its criteria.";
        NotAllowed "not-allowed"
            "the recipient or server does not allow any entity to perform the action.";
        NotAuthorized "not-authorized"
            "the sender needs to provide credentials before being allowed to perform the action, or has provided improper ones.";
        PolicyViolation "policy-violation"
            "the entity has violated some local service policy, such as a limit on size or rate.";
        RecipientUnavailable "recipient-unavailable"
            "the intended recipient is temporarily unavailable.",
            note "Security: must not be returned to one who is not authorized to know the recipient's presence; then it is service-unavailable.";
        Redirect "redirect"
            "the recipient or server is redirecting requests for this information to another entity, typically temporarily.",
            note "The other address is the element's text. Security: a client must ask its user before it follows.";
        RegistrationRequired "registration-required"
            "the requesting entity needs to register with the service first.";
        RemoteServerNotFound "remote-server-not-found"
            "the remote domain in the recipient's JID does not exist or cannot be resolved.";
        RemoteServerTimeout "remote-server-timeout"
            "the remote domain exists, but communication with it could not be established in a reasonable time or was lost.";
        ResourceConstraint "resource-constraint"
            "the server or recipient is busy or lacks the system resources necessary to service the request.";
        ServiceUnavailable "service-unavailable"
            "the server or recipient does not currently provide the requested service.",
            note "Security: this is also the answer that reveals nothing; an unknown account, a blocked sender and an absent resource must look the same to a stranger.";
        SubscriptionRequired "subscription-required"
            "the requesting entity needs a prior subscription to the service or to the presence of the entity.";
        UndefinedCondition "undefined-condition"
            "the error condition is not among the others; only with an application-specific condition.";
        UnexpectedRequest "unexpected-request"
            "the recipient or server understood the request but was not expecting it at this time.";
    }
}

conditions! {
    /// Why authentication failed (RFC 6120 §6.5).
    SaslCondition {
        Aborted "aborted"
            "the receiving entity acknowledges that the authentication handshake has been aborted by the initiating entity.";
        AccountDisabled "account-disabled"
            "the account of the initiating entity has been temporarily disabled.",
            note "Security: only to one who has proved to know the password; else it is not-authorized.";
        CredentialsExpired "credentials-expired"
            "the authentication failed because the credentials have expired.",
            note "Security: only to one who has proved to know the password; else it is not-authorized.";
        EncryptionRequired "encryption-required"
            "the mechanism requested cannot be used unless the confidentiality of the stream is protected (typically by TLS).";
        IncorrectEncoding "incorrect-encoding"
            "the data provided could not be processed because it is not correct base64 (RFC 4648 §4).";
        InvalidAuthzid "invalid-authzid"
            "the authzid is incorrectly formatted, or the initiating entity has no permission to authorize that identity.";
        InvalidMechanism "invalid-mechanism"
            "the initiating entity did not specify a mechanism, or requested one that is not supported.";
        MalformedRequest "malformed-request"
            "the request is malformed: for instance an initial response where the mechanism has none, or a syntax violation.";
        MechanismTooWeak "mechanism-too-weak"
            "the mechanism requested is weaker than server policy permits for that initiating entity.";
        NotAuthorized "not-authorized"
            "the authentication failed because the initiating entity did not provide proper credentials.",
            note "Security: deliberately the same for an unknown user and for a wrong password, lest accounts be harvested (RFC 6120 §13.11).";
        TemporaryAuthFailure "temporary-auth-failure"
            "the authentication failed because of a temporary error condition within the receiving entity; try again later.";
    }
}

/// What the sender of the stanza should do about an error (RFC 6120 §8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Retry after providing credentials.
    Auth,
    /// Do not retry: the error cannot be remedied.
    Cancel,
    /// Proceed: the condition was only a warning.
    Continue,
    /// Retry after changing the data sent.
    Modify,
    /// Retry after waiting: the error is temporary.
    Wait,
}

impl ErrorKind {
    /// The value of the `type` attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    /// The kind a `type` attribute names.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auth, Self::Cancel, Self::Continue, Self::Modify, Self::Wait]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

impl Condition {
    /// The type that RFC 6120 §8.3.3 says SHOULD go with the condition; where it names two, the first.
    pub const fn default_kind(self) -> ErrorKind {
        match self {
            Self::Forbidden | Self::NotAuthorized | Self::RegistrationRequired | Self::SubscriptionRequired => {
                ErrorKind::Auth
            }
            Self::BadRequest | Self::JidMalformed | Self::NotAcceptable | Self::PolicyViolation | Self::Redirect => {
                ErrorKind::Modify
            }
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorKind::Wait,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorKind::Cancel,
        }
    }
}
