//! Values that must not be read by the wrong people.
//!
//! [`Pii`] is personal data: it may be computed with, sent to a service, and stored in the call record, but never
//! logged. [`Secret`] is a credential: it may only be sent. Both print as `•••`.
//!
//! A journal must be replayable and still hold no personal data. While a [`Vault`] is open on this thread, a `Pii`
//! is written as a token, `{"pii":3}`, and its value goes into the vault, which is kept apart from the journal and
//! can be destroyed alone. Without a vault a `Pii` is written as `"•••"`: forgetting the vault loses data, never leaks it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Personal data: a phone number, a name, words, digits, a lookup's result.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pii<T>(T);

impl<T> Pii<T> {
    /// Marks a value as personal.
    pub fn new(value: T) -> Pii<T> {
        Pii(value)
    }

    /// The value, for computing and for sending to where the caller's data is meant to go. Never for a log.
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// As [`Pii::reveal`], giving the value away.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl<T> From<T> for Pii<T> {
    fn from(value: T) -> Pii<T> {
        Pii(value)
    }
}

impl<T: Serialize> Serialize for Pii<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let value = serde_json::to_value(&self.0).map_err(serde::ser::Error::custom)?;
        let token = OPEN.with_borrow_mut(|open| open.as_mut().map(|vault| vault.put(value)));
        match token {
            Some(token) => Token { pii: token }.serialize(to),
            None => to.serialize_str(MASK),
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Pii<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Pii<T>, D::Error> {
        use serde::de::Error as _;

        let written = Value::deserialize(from)?;
        let value = match Token::deserialize(&written) {
            Ok(Token { pii }) => OPEN
                .with_borrow(|open| open.as_ref().and_then(|vault| vault.get(pii).cloned()))
                .ok_or_else(|| D::Error::custom(format!("private value {pii} is not in the vault")))?,
            // Configuration and outside callers write the value itself.
            Err(_) => written,
        };
        serde_json::from_value(value).map(Pii).map_err(D::Error::custom)
    }
}

/// The private values of one journal, by token. A value that comes again gets its old token.
#[derive(Clone, Debug, Default)]
pub struct Vault {
    /// Those that were not taken out yet, the first of them with the token `taken`.
    values: Vec<Value>,
    taken: usize,
    /// By digest, so that a long call does not keep every word it ever wrote.
    tokens: HashMap<[u8; 16], usize>,
}

impl Vault {
    /// A vault holding these values, first token first.
    pub fn from_values(values: Vec<Value>) -> Vault {
        let tokens = values.iter().enumerate().map(|(at, value)| (digest(value), at)).collect();
        Vault { values, taken: 0, tokens }
    }

    /// Takes out the values that are new since the last time, in the order of their tokens, to be written down. They keep
    /// their tokens, and can no longer be read here.
    pub fn take_new(&mut self) -> Vec<Value> {
        self.taken += self.values.len();
        std::mem::take(&mut self.values)
    }

    /// Runs `work` with this vault open on this thread: `Pii` values inside are written and read as tokens.
    ///
    /// # Panics
    /// When a vault is open on this thread already.
    pub fn open<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let inside = std::mem::take(self);
        OPEN.with_borrow_mut(|open| {
            assert!(open.is_none(), "a vault is open on this thread already");
            *open = Some(inside);
        });
        // Closed on unwinding too: an open vault would serve the next call on this thread.
        let closing = Closing { back: self };
        let done = work();
        drop(closing);
        done
    }

    fn put(&mut self, value: Value) -> usize {
        let key = digest(&value);
        if let Some(token) = self.tokens.get(&key) {
            return *token;
        }
        let token = self.taken + self.values.len();
        self.values.push(value);
        self.tokens.insert(key, token);
        token
    }

    fn get(&self, token: usize) -> Option<&Value> {
        self.values.get(token.checked_sub(self.taken)?)
    }
}

/// Half a SHA-256 of the value as it is written: two values with the same one will not be met.
fn digest(value: &Value) -> [u8; 16] {
    let whole: [u8; 32] = Sha256::digest(value.to_string()).into();
    std::array::from_fn(|at| whole[at])
}

struct Closing<'a> {
    back: &'a mut Vault,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let Some(inside) = OPEN.with_borrow_mut(Option::take) {
            *self.back = inside;
        }
    }
}

thread_local! {
    static OPEN: RefCell<Option<Vault>> = const { RefCell::new(None) };
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    pii: usize,
}

/// A credential. It is never written anywhere; [`Secret::reveal`] is for the line that sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Marks a value as a credential.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The credential itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

const MASK: &str = "•••";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_value_is_never_written_without_a_vault() {
        let number = Pii::new("+441632960001".to_owned());

        let written = serde_json::to_string(&number).unwrap();

        assert_eq!(written, "\"•••\"");
        assert_eq!(format!("{number} {number:?}"), "••• •••");
    }

    #[test]
    fn a_vault_gives_back_what_a_token_stands_for() {
        let mut vault = Vault::default();
        let said = vec![Pii::new("Ada".to_owned()), Pii::new("Bob".to_owned()), Pii::new("Ada".to_owned())];

        let written = vault.open(|| serde_json::to_string(&said).unwrap());
        let read: Vec<Pii<String>> = vault.open(|| serde_json::from_str(&written).unwrap());

        assert_eq!(written, r#"[{"pii":0},{"pii":1},{"pii":0}]"#);
        assert_eq!(read, said);
    }

    #[test]
    fn values_that_were_taken_out_keep_their_tokens() {
        let mut vault = Vault::default();
        let write =
            |vault: &mut Vault, name: &str| vault.open(|| serde_json::to_string(&Pii::new(name.to_owned())).unwrap());

        write(&mut vault, "Ada");
        let first = vault.take_new();
        let again = (write(&mut vault, "Ada"), write(&mut vault, "Bob"));
        let second = vault.take_new();

        assert_eq!((first, second), (vec![Value::from("Ada")], vec![Value::from("Bob")]));
        assert_eq!(again, (r#"{"pii":0}"#.to_owned(), r#"{"pii":1}"#.to_owned()));
    }

    #[test]
    fn a_vault_closes_when_the_work_panics() {
        let mut vault = Vault::default();

        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| vault.open(|| panic!("in the middle"))));

        assert!(broken.is_err());
        assert_eq!(serde_json::to_string(&Pii::new(1)).unwrap(), "\"•••\"");
    }
}
