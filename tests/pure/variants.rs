//! The choice of kernel variants, for adapters that are not here too.

use lowland::gpu::Capabilities;

use lowland::ops::{Family, KernelChoice, Need, Variants};

/// A GPU of the usual limits.
fn gpu() -> Capabilities {
    Capabilities {
        software: false,
        subgroup_size: 32,
        subgroup_min: 32,
        subgroup_max: 32,
        workgroup_bytes: 32768,
        workgroup_invocations: 1024,
        f16: true,
        cooperative: vec![],
        images: false,
        uniform_stores: false,
        timestamps: true,
        largest_binding: 1 << 31,
        largest_buffer: 1 << 31,
    }
}

fn software(lanes: u32) -> Capabilities {
    Capabilities { software: true, subgroup_size: lanes, subgroup_min: lanes, subgroup_max: lanes, ..gpu() }
}

/// A driver that picks the subgroup's size anew for every kernel.
fn varying(min: u32, max: u32) -> Capabilities {
    Capabilities { subgroup_size: 0, subgroup_min: min, subgroup_max: max, ..gpu() }
}

/// An adapter at WebGPU's least limits, without subgroups.
fn least() -> Capabilities {
    Capabilities { workgroup_bytes: 4096, workgroup_invocations: 128, f16: false, ..varying(0, 0) }
}

fn adapters() -> Vec<Capabilities> {
    let software_varying = Capabilities { software: true, ..varying(4, 16) };
    let mut all = vec![gpu(), varying(32, 64), varying(8, 32), least(), software_varying];
    all.extend([4, 8, 16, 64].map(software));
    all
}

#[test]
fn every_choice_can_run() {
    for caps in adapters() {
        assert_eq!(Variants::choose(&caps).missing(&caps), None, "{caps:?}");
        for variants in Variants::all(&caps) {
            assert_eq!(variants.missing(&caps), None, "{caps:?}");
        }
    }
}

#[test]
fn software_adapters_get_the_kernels_of_their_width() {
    for lanes in [4, 8, 16] {
        let chosen = Variants::choose(&software(lanes));
        for operation in [Family::LinearNt, Family::LinearNn, Family::LinearTn] {
            assert_eq!(chosen.row(operation).name, format!("subgroup-{lanes}"));
        }
    }
}

#[test]
fn long_runs_get_variants_of_their_own_where_the_driver_gains_by_them() {
    for caps in adapters() {
        assert_eq!(Variants::for_long(&caps), Variants::choose(&caps), "{caps:?}");
    }
    for lanes in [8, 16] {
        let caps = Capabilities { uniform_stores: true, ..software(lanes) };
        let names = Family::ALL.map(|o| (o.name(), Variants::for_long(&caps).row(o).name));
        let apart = format!("uniform-{lanes}");
        let there = names.iter().filter(|(_, name)| *name == apart).map(|(operation, _)| *operation);
        let products = ["linear_nt", "linear_nn"];
        let attention: &[&str] = if lanes == 16 { &["attention_forward", "attention_vjp"] } else { &[] };
        assert_eq!(there.collect::<Vec<_>>(), [&products, attention, &["layer_norm"]].concat());
        assert_eq!(Variants::for_long(&caps).missing(&caps), None);
        assert_eq!(Variants::for_long(&caps).for_short(), Variants::choose(&caps), "{caps:?}");
        // Where the driver may no more, a run goes on with the plain ones, and with what was asked for beside them.
        let long = Variants::for_long(&caps).with(Family::AttentionForward, "row").unwrap();
        let plain = Variants::choose(&software(lanes)).with(Family::AttentionForward, "row");
        assert_eq!(long.runnable(&software(lanes)), plain);
        assert_eq!((long.runnable(&caps), long.runnable(&gpu())), (Some(long), None));
    }
}

#[test]
fn a_kernel_for_one_subgroup_size_needs_that_size_alone() {
    for caps in adapters().into_iter().filter(|c| c.subgroup_size == 0) {
        for variants in Variants::all(&caps) {
            for operation in Family::ALL {
                let row = variants.row(operation);
                assert!(!row.needs.iter().any(|n| matches!(n, Need::Lanes(_))), "{} on {caps:?}", row.name);
            }
        }
    }
}

#[test]
fn every_row_is_tested_on_an_adapter_that_can_run_it() {
    for caps in adapters() {
        let all = Variants::all(&caps);
        for operation in Family::ALL {
            for row in operation.rows().iter().filter(|row| row.missing(&caps).is_none()) {
                assert!(all.iter().any(|v| v.row(operation).name == row.name), "{operation:?} {}", row.name);
            }
        }
    }
}

#[test]
fn variants_are_written_and_read_by_name() {
    for variants in Variants::every(&gpu()) {
        let text = serde_json::to_string(&variants).unwrap();
        assert!(text.contains("\"linear_nt\":\""), "{text}");
        assert_eq!(serde_json::from_str::<Variants>(&text).unwrap(), variants);
    }
    assert!(serde_json::from_str::<Variants>("{\"linear_nt\":\"direct\"}").is_err(), "an operation is missing");
    assert!(serde_json::from_str::<Variants>("{\"linear\":\"Tiled\",\"row_lanes\":32}").is_err(), "names of old");
}

#[test]
fn asked_for_variants_go_before_the_choice_and_the_last_one_wins() {
    let caps = gpu();
    let kernel_choice: KernelChoice = "linear=direct, linear_tn=tiled,attention=row".parse().unwrap();
    let variants = kernel_choice.apply(Variants::choose(&caps), &caps).unwrap();
    let names = [Family::LinearNt, Family::LinearNn, Family::LinearTn].map(|o| variants.row(o).name);
    assert_eq!(names, ["direct", "direct", "tiled"]);
    assert_eq!(variants.row(Family::LayerNorm).name, Variants::choose(&caps).row(Family::LayerNorm).name);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let says = |text: &str| text.parse::<KernelChoice>().unwrap_err().to_string();
    assert!(says("linear").contains("OPERATION=VARIANT"));
    assert!(says("layer=lane").contains("layer_norm"));
    assert!(says("attention=tiled").contains("row"));
    let refused = |wish: &str, caps: &Capabilities| {
        wish.parse::<KernelChoice>().unwrap().apply(Variants::choose(caps), caps).unwrap_err().to_string()
    };
    assert!(refused("linear=tiled", &least()).contains("256 invocations"));
    assert!(refused("linear=subgroup-8", &gpu()).contains("this adapter has 32"));
    assert!(refused("linear_nt=subgroup-16", &varying(8, 32)).contains("8 to 32"));
    assert!(refused("attention=subgroup-4", &least()).contains("no subgroups"));
}
