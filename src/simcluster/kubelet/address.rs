//! Addresses of pods: each its own, none given twice at a time.
//!
//! Pure. The range is 10.244.0.0/16, as many small clusters use.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const FIRST: u32 = u32::from_be_bytes([10, 244, 0, 1]);
const COUNT: u32 = 65_534;

/// The addresses in use.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    used: BTreeSet<u32>,
    /// Where the search goes on: an address is not given again soon.
    next: u32,
}

impl Addresses {
    /// A free address; none when all are in use.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        let free =
            (0..COUNT).map(|step| (self.next + step) % COUNT).find(|offset| !self.used.contains(offset))?;
        self.used.insert(free);
        self.next = (free + 1) % COUNT;
        Some(Ipv4Addr::from(FIRST + free))
    }

    /// A pod has this address from earlier.
    pub(super) fn keep(&mut self, address: Ipv4Addr) {
        if let Some(offset) = offset(address) {
            self.used.insert(offset);
        }
    }

    pub(super) fn release(&mut self, address: Ipv4Addr) {
        if let Some(offset) = offset(address) {
            self.used.remove(&offset);
        }
    }
}

fn offset(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(FIRST).filter(|offset| *offset < COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_use_are_not_given_again() {
        let mut addresses = Addresses::default();
        addresses.keep(Ipv4Addr::new(10, 244, 0, 2));
        addresses.keep(Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 244, 0, 1)));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 244, 0, 3)));
        addresses.release(Ipv4Addr::new(10, 244, 0, 1));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 244, 0, 4)));
    }

    #[test]
    fn when_all_are_in_use_there_is_none_until_one_is_released() {
        let mut addresses = Addresses::default();
        for _ in 0..COUNT {
            assert!(addresses.take().is_some());
        }
        assert_eq!(addresses.take(), None);
        addresses.release(Ipv4Addr::new(10, 244, 3, 7));
        assert_eq!(addresses.take(), Some(Ipv4Addr::new(10, 244, 3, 7)));
    }
}
