//! What the running kernel says of its own types, as far as the loader does not ask: how many arguments a tracepoint
//! has, and what programs may call. The format is described in the kernel's documentation, `bpf/btf`.

use std::fs;

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

struct Type {
    name: u32,
    kind: u32,
    entries: usize,
    /// The type that it refers to; for others a size.
    refers_to: u32,
}

/// The types of the running kernel.
pub(super) struct KernelTypes {
    types: Vec<Type>,
    strings: Vec<u8>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// How many bytes follow a type of that kind.
fn tail_bytes(kind: u32, entries: usize) -> usize {
    match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * entries,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * entries,
        _ => 0,
    }
}

impl KernelTypes {
    /// Those of the running kernel; `None` if it has none to show.
    pub(super) fn read() -> Option<Self> {
        Self::parse(&fs::read(PATH).ok()?)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let [header, types, types_bytes, strings, strings_bytes] =
            [4, 8, 12, 16, 20].map(|at| word(bytes, at).map(|word| word as usize));
        let (header, types) = (header?.max(HEADER_BYTES), types?);
        let mut rest = bytes.get(header + types..header + types + types_bytes?)?;
        let strings = bytes.get(header + strings?..header + strings? + strings_bytes?)?.to_vec();
        let mut all = Vec::new();
        while !rest.is_empty() {
            let (name, info, refers_to) = (word(rest, 0)?, word(rest, 4)?, word(rest, 8)?);
            let (kind, entries) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            all.push(Type { name, kind, entries, refers_to });
            rest = rest.get(TYPE_BYTES + tail_bytes(kind, entries)..)?;
        }
        Some(KernelTypes { types: all, strings })
    }

    /// Without types.
    #[cfg(test)]
    pub(super) fn with_strings(strings: &[u8]) -> Self {
        KernelTypes { types: Vec::new(), strings: strings.to_vec() }
    }

    /// Types are counted from 1.
    fn get(&self, id: u32) -> Option<&Type> {
        self.types.get((id as usize).checked_sub(1)?)
    }

    fn is_named(&self, one: &Type, name: &str) -> bool {
        let rest = self.strings.get(one.name as usize..);
        rest.is_some_and(|rest| rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0))
    }

    /// Whether BPF programs may call a function of this name.
    pub(super) fn has_helper(&self, helper: &str) -> bool {
        // Each has a value of `enum bpf_func_id`, and nothing else is called so.
        let name = format!("\0BPF_FUNC_{helper}\0");
        self.strings.windows(name.len()).any(|window| window == name.as_bytes())
    }

    /// How many arguments a tracepoint gives to programs that hang on it; `None` if the kernel has no such.
    pub(super) fn tracepoint_arguments(&self, tracepoint: &str) -> Option<usize> {
        let name = format!("btf_trace_{tracepoint}");
        let named = self.types.iter().find(|one| one.kind == KIND_TYPEDEF && self.is_named(one, &name))?;
        let pointer = self.get(named.refers_to).filter(|one| one.kind == KIND_PTR)?;
        let function = self.get(pointer.refers_to).filter(|one| one.kind == KIND_FUNC_PROTO)?;
        // The first is the program's own.
        function.entries.checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use test_support::skip;

    use super::*;

    #[test]
    fn tracepoints_of_this_kernel_have_the_arguments_that_we_know() {
        let Some(types) = KernelTypes::read() else {
            skip(format_args!("the kernel shows no types in {PATH}"));
            return;
        };
        assert!(types.tracepoint_arguments("sched_switch").is_some_and(|count| count >= 3));
        assert!(types.tracepoint_arguments("mmap_lock_released").is_some_and(|count| count == 2 || count == 3));
        assert_eq!(types.tracepoint_arguments("sched_switc"), None);
        // Of Linux 5.8.
        assert!(types.has_helper("ringbuf_output") && !types.has_helper("ringbuf_outpu"));
    }

    #[test]
    fn what_is_no_type_information_is_refused() {
        assert!(KernelTypes::parse(&[]).is_none());
        assert!(KernelTypes::parse(&[0; 64]).is_none());
        let mut cut = Vec::from(MAGIC.to_ne_bytes());
        cut.extend([0; 100]);
        cut[12] = 200;
        assert!(KernelTypes::parse(&cut).is_none());
    }
}
