//! What the host needs to know of a kernel, from the naga modules of its variants and from the text of its files: the
//! fields of its parameters, the constants that the host may set, and the buffers of every entry point.

use std::collections::BTreeMap;

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner, VectorSize};

use super::annotations::{Annotation, Variant};
use super::shader_text::{self, Line};

/// A file of `shaders/`.
pub struct Kernel {
    /// Stem of the file.
    pub name: String,
    /// The comment at its head.
    pub head: Vec<String>,
    pub params: Vec<Field>,
    /// Bytes of the parameters.
    pub params_size: u32,
    pub constants: Vec<Constant>,
    pub entries: Vec<Entry>,
}

/// A field of `Params`.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    /// An f32, else a u32.
    pub float: bool,
    pub comment: Vec<String>,
}

/// A constant that some variant sets.
pub struct Constant {
    pub name: String,
    pub default: u32,
    /// 0 by itself, and 0 or 1 in every variant that sets it.
    pub flag: bool,
    pub comment: Vec<String>,
}

/// An entry point with the storage buffers that it uses.
pub struct Entry {
    pub name: String,
    pub bindings: Vec<Binding>,
}

/// A storage buffer.
#[derive(Clone)]
pub struct Binding {
    pub index: u32,
    pub name: String,
    pub write: bool,
    /// An `array<vec4<f32>>`: read-only ones may be read as images.
    pub vec4: bool,
    /// May be left out: marked `//@optional`, or not there in every variant.
    pub optional: bool,
    pub comment: Vec<String>,
}

/// The facts of one kernel, variant by variant.
pub struct Facts<'a> {
    name: &'a str,
    lines: &'a [Line],
    params: Option<(Vec<Field>, u32)>,
    /// For each entry point its buffers by index, and how many variants use each.
    entries: BTreeMap<String, BTreeMap<u32, (Binding, usize)>>,
    seen: usize,
}

impl<'a> Facts<'a> {
    /// Nothing known yet of the kernel `name`, whose files have these lines.
    pub fn new(name: &'a str, lines: &'a [Line]) -> Facts<'a> {
        Facts { name, lines, params: None, entries: BTreeMap::new(), seen: 0 }
    }

    /// Takes in one variant.
    pub fn see(&mut self, module: &Module, info: &ModuleInfo) -> Result<(), String> {
        self.seen += 1;
        let params = self.params_of(module)?;
        match &self.params {
            Some(before) if *before != params => {
                return Err(format!("shaders/{}.wgsl: Params differs between variants", self.name));
            }
            _ => self.params = Some(params),
        }
        for (i, point) in module.entry_points.iter().enumerate() {
            for binding in self.bindings(module, info.get_entry_point(i)) {
                let known = self.entries.entry(point.name.clone()).or_default();
                let (first, uses) = known.entry(binding.index).or_insert_with(|| (binding.clone(), 0));
                if first.name != binding.name {
                    return Err(format!(
                        "shaders/{}.wgsl: in `{}` both `{}` and `{}` are binding {}",
                        self.name, point.name, first.name, binding.name, binding.index
                    ));
                }
                *uses += 1;
            }
        }
        Ok(())
    }

    /// What all variants together say.
    pub fn finish(self, variants: &[Variant]) -> Result<Kernel, String> {
        for pair in self.lines.windows(2) {
            if pair[0].annotation == Some(Annotation::Optional) && declared(&pair[1].text).is_none() {
                let place = format!("shaders/{}:{}", pair[0].file, pair[0].number);
                return Err(format!("{place}: `//@optional` wants a storage buffer on the next line"));
            }
        }
        let constants = self.constants(variants)?;
        self.once(&constants)?;
        let mut entries = Vec::new();
        for (name, bindings) in self.entries {
            if bindings.len() > 8 {
                return Err(format!(
                    "shaders/{}.wgsl: `{name}` uses {} storage buffers in its variants, of 8 at most",
                    self.name,
                    bindings.len()
                ));
            }
            let optional = |(mut binding, uses): (Binding, usize)| {
                binding.optional |= uses < self.seen;
                binding
            };
            entries.push(Entry { name, bindings: bindings.into_values().map(optional).collect() });
        }
        let head = self.lines.iter().take_while(|line| line.text.starts_with("//") && line.annotation.is_none());
        let head = head.map(|line| line.text[2..].to_string()).collect();
        let (params, params_size) = self.params.unwrap_or_default();
        Ok(Kernel { name: self.name.to_string(), head, params, params_size, constants, entries })
    }

    /// The fields of the struct at binding 8, and its size.
    fn params_of(&self, module: &Module) -> Result<(Vec<Field>, u32), String> {
        let uniform = module.global_variables.iter().find(|(_, global)| {
            global.space == AddressSpace::Uniform && global.binding.as_ref().is_some_and(|b| b.binding == 8)
        });
        let Some((_, global)) = uniform else { return Ok((vec![], 0)) };
        let wrong = || format!("shaders/{}.wgsl: binding 8 must be a struct of u32 and f32", self.name);
        let TypeInner::Struct { members, span } = &module.types[global.ty].inner else { return Err(wrong()) };
        let mut fields = Vec::new();
        for member in members {
            let float = match module.types[member.ty].inner {
                TypeInner::Scalar(scalar) if scalar.width == 4 => match scalar.kind {
                    ScalarKind::Float => true,
                    ScalarKind::Uint => false,
                    _ => return Err(wrong()),
                },
                _ => return Err(wrong()),
            };
            let name = member.name.clone().unwrap_or_default();
            let after = self.lines.iter().position(|line| line.text.starts_with("struct Params")).unwrap_or(0);
            let comment = self.comment(after, |text| text.trim_start().starts_with(&format!("{name}:")));
            fields.push(Field { name, float, comment });
        }
        Ok((fields, *span))
    }

    /// The storage buffers that an entry point uses.
    fn bindings(&self, module: &Module, info: &FunctionInfo) -> Vec<Binding> {
        let mut all = Vec::new();
        for (handle, global) in module.global_variables.iter() {
            let (Some(binding), false) = (&global.binding, info[handle].is_empty()) else {
                continue;
            };
            if let AddressSpace::Storage { access } = global.space {
                let name = global.name.clone().unwrap_or_default();
                let declares = |text: &str| declared(text) == Some(name.as_str());
                let optional = self
                    .lines
                    .windows(2)
                    .any(|pair| pair[0].annotation == Some(Annotation::Optional) && declares(&pair[1].text));
                all.push(Binding {
                    index: binding.binding,
                    write: access.contains(StorageAccess::STORE),
                    vec4: is_vec4(module, global),
                    optional,
                    comment: self.comment(0, declares),
                    name: name.clone(),
                });
            }
        }
        all
    }

    /// The constants that some variant sets, with their values in the text.
    fn constants(&self, variants: &[Variant]) -> Result<Vec<Constant>, String> {
        let set = |name: &str| -> Vec<u32> {
            variants.iter().flat_map(|v| &v.constants).filter(|(n, _)| n == name).map(|(_, value)| *value).collect()
        };
        let mut all: Vec<Constant> = Vec::new();
        for line in self.lines {
            let Some((name, expression)) = shader_text::constant_of(&line.text) else { continue };
            let wrong = |what: &str| format!("shaders/{}:{}: `{name}` {what}", line.file, line.number);
            let known = all.iter().find(|c| c.name == name);
            let value = shader_text::evaluate(&expression, &Default::default());
            match (known, value, set(&name).first()) {
                (_, _, None) => {}
                (_, None, Some(_)) => return Err(wrong("is set by a variant, and so must be a number here")),
                (Some(known), Some(value), _) if known.default != value => {
                    return Err(wrong("has another value elsewhere, though variants set it"));
                }
                (Some(_), ..) => {}
                (None, Some(default), Some(_)) => {
                    let flag = default == 0 && set(&name).iter().all(|value| *value <= 1);
                    let comment = self.comment(0, |text| text == line.text);
                    all.push(Constant { name, default, flag, comment });
                }
            }
        }
        Ok(all)
    }

    /// No two variants are the same, whether they name a default or not.
    fn once(&self, constants: &[Constant]) -> Result<(), String> {
        let mut seen = vec![vec![]];
        for line in self.lines {
            let Some(Annotation::Variants(declared)) = &line.annotation else { continue };
            for variant in declared {
                let default = |name: &str| constants.iter().find(|c| c.name == name).map(|c| c.default);
                let set = variant.constants.iter().filter(|(name, value)| default(name) != Some(*value));
                let mut set: Vec<&(String, u32)> = set.collect();
                set.sort();
                if seen.contains(&set) {
                    let place = format!("shaders/{}:{}", line.file, line.number);
                    return Err(format!("{place}: the variant `{variant}` is there already, without its defaults"));
                }
                seen.push(set);
            }
        }
        Ok(())
    }

    /// The lines of comment right above the first line, from number `after` on, that fits.
    fn comment(&self, after: usize, fits: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(at) = (after..self.lines.len()).find(|i| fits(&self.lines[*i].text)) else { return vec![] };
        let above = self.lines[..at].iter().rev().filter(|line| line.annotation != Some(Annotation::Optional));
        let comment = above.take_while(|line| line.annotation.is_none() && line.text.trim_start().starts_with("//"));
        let mut lines: Vec<String> =
            comment.map(|line| line.text.trim_start().trim_start_matches('/').trim().to_string()).collect();
        lines.reverse();
        lines
    }
}

/// The name in `@group(0) @binding(2) var<storage, read> NAME: ..`.
fn declared(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("var<storage")?;
    let (name, _) = rest.split_once('>')?.1.split_once(':')?;
    Some(name.trim())
}

fn is_vec4(module: &Module, global: &naga::GlobalVariable) -> bool {
    matches!(&module.types[global.ty].inner, TypeInner::Array { base, .. }
        if matches!(module.types[*base].inner,
            TypeInner::Vector { size: VectorSize::Quad, scalar: naga::Scalar::F32 }))
}
