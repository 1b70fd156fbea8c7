//! Ollama's keys: each server has an Ed25519 pair in the form of OpenSSH, and signs with it when a registry asks who
//! it is.
//!
//! What is signed, by Ollama's `server/auth.go` and `auth/auth.go`: the method, the URL and the hash of the empty body,
//! with commas between. The header is the public key and the signature, in Base64, with a colon between.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use crate::mirror::sha256;

const ALGORITHM: &[u8] = b"ssh-ed25519";
const PRIVATE_BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const PRIVATE_END: &str = "-----END OPENSSH PRIVATE KEY-----";
const PRIVATE_MAGIC: &[u8] = b"openssh-key-v1\0";
const KEY_BYTES: usize = 32;

/// The public half of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

/// A pair, which can sign.
pub struct KeyPair {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl PublicKey {
    /// From the Base64 text of a public key in OpenSSH's form.
    fn read(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        let mut fields = Fields(&bytes);
        let is_known = fields.string()? == ALGORITHM;
        let key = fields.string()?.try_into().ok()?;
        (is_known && fields.0.is_empty()).then_some(Self(key))
    }

    fn write(self) -> String {
        let field = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        STANDARD.encode([field(ALGORITHM), field(&self.0)].concat())
    }
}

/// Length-prefixed fields, one behind the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::try_from(length).ok()?)
    }
}

/// Public keys, one a line as in `id_ed25519.pub`; empty lines and lines that begin with `#` don't count.
///
/// # Errors
/// Names the first line that is no key, or says that there is none.
pub fn read_public(text: &str) -> Result<BTreeSet<PublicKey>, String> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let key = |(number, line): (usize, &str)| {
        let mut words = line.split_whitespace();
        let algorithm = words.next().map(str::as_bytes);
        let key = words.next().filter(|_| algorithm == Some(ALGORITHM)).and_then(PublicKey::read);
        key.ok_or_else(|| format!("line {number} is no key: write lines such as those of ~/.ollama/id_ed25519.pub"))
    };
    let keys: BTreeSet<PublicKey> = lines.map(key).collect::<Result<_, _>>()?;
    match keys.is_empty() {
        true => Err("it holds no key: write lines such as those of ~/.ollama/id_ed25519.pub".into()),
        false => Ok(keys),
    }
}

impl KeyPair {
    /// From a private key in OpenSSH's form without a passphrase, such as `~/.ollama/id_ed25519`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| {
            "it is no Ed25519 private key of OpenSSH without a passphrase, as Ollama's id_ed25519 is".into()
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix(PRIVATE_BEGIN)?.strip_suffix(PRIVATE_END)?;
        let inner: String = inner.split_whitespace().collect();
        let bytes = STANDARD.decode(inner).ok()?;
        let mut fields = Fields(bytes.strip_prefix(PRIVATE_MAGIC)?);
        let (cipher, _, _) = (fields.string()?, fields.string()?, fields.string()?);
        if cipher != b"none" || fields.number()? != 1 {
            return None;
        }
        fields.string()?;
        let mut secret = Fields(fields.string()?);
        let is_whole = secret.number()? == secret.number()?;
        let algorithm = secret.string()?;
        let public: [u8; KEY_BYTES] = secret.string()?.try_into().ok()?;
        let seed = secret.string()?.get(..KEY_BYTES)?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, &public).ok()?;
        (is_whole && algorithm == ALGORITHM).then_some(Self { pair, public: PublicKey(public) })
    }

    /// The `Authorization` header for a GET of this URL.
    pub fn sign(&self, url: &str) -> String {
        let signature = self.pair.sign(signed(url).as_bytes());
        format!("{}:{}", self.public.write(), STANDARD.encode(signature))
    }
}

fn signed(url: &str) -> String {
    format!("GET,{url},{}", STANDARD.encode(sha256(b"").hex()))
}

/// The key that signed a GET of one of these URLs, by the `Authorization` header.
pub fn signer(header: &str, urls: &[String]) -> Option<PublicKey> {
    let (key, signature) = header.trim().split_once(':')?;
    let key = PublicKey::read(key)?;
    let signature = STANDARD.decode(signature).ok()?;
    let fits =
        |url: &String| UnparsedPublicKey::new(&ED25519, key.0).verify(signed(url).as_bytes(), &signature).is_ok();
    urls.iter().any(fits).then_some(key)
}
