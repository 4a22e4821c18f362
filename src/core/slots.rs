//! Typed places for what a module remembers of a session or an account.
//!
//! A module asks for a [`Slot`] once, in `new`; reading and writing it needs no string, no cast and no lock of its own.
//! A slot that nobody has set costs a session nothing.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::marker::PhantomData;

use parking_lot::Mutex;

/// A place in every session or account, owned by the module that asked for it.
pub struct Slot<T> {
    index: u16,
    _holds: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

/// Hands out slots. The same module, type and name give the same slot again, so that a reload keeps what sessions hold.
#[derive(Default)]
pub struct SlotNames {
    known: Mutex<HashMap<(&'static str, &'static str, TypeId), u16>>,
}

impl SlotNames {
    /// The slot `name` of `module` for values of type `T`.
    pub fn slot<T: Any + Send>(&self, module: &'static str, name: &'static str) -> Slot<T> {
        let mut known = self.known.lock();
        let next = known.len() as u16;
        let index = *known.entry((module, name, TypeId::of::<T>())).or_insert(next);
        Slot { index, _holds: PhantomData }
    }
}

/// The values that modules keep in one session or account: few, so a short list beats a table.
#[derive(Default)]
pub struct Slots(Vec<(u16, Box<dyn Any + Send>)>);

impl Slots {
    /// What the slot holds.
    pub fn get<T: Any + Send>(&self, slot: Slot<T>) -> Option<&T> {
        self.0.iter().find(|(index, _)| *index == slot.index)?.1.downcast_ref()
    }

    /// What the slot holds, set to the default first when it holds nothing.
    pub fn entry<T: Any + Send + Default>(&mut self, slot: Slot<T>) -> Option<&mut T> {
        if !self.0.iter().any(|(index, _)| *index == slot.index) {
            self.0.push((slot.index, Box::new(T::default())));
        }
        self.0.iter_mut().find(|(index, _)| *index == slot.index)?.1.downcast_mut()
    }

    /// Puts a value into the slot.
    pub fn set<T: Any + Send>(&mut self, slot: Slot<T>, value: T) {
        self.take(slot);
        self.0.push((slot.index, Box::new(value)));
    }

    /// Empties the slot and gives what it held.
    pub fn take<T: Any + Send>(&mut self, slot: Slot<T>) -> Option<T> {
        let at = self.0.iter().position(|(index, _)| *index == slot.index)?;
        self.0.swap_remove(at).1.downcast().ok().map(|value| *value)
    }
}
