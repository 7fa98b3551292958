#!/bin/sh
# Runs a program under Vulkan's validation layer, which must stay silent: `validate.sh PROGRAM ARGUMENTS...`. Ends with
# the program's status, or with 1 when the layer printed an error or a warning or was not loaded; 77 where it is not
# installed.
set -eu

found=no
for folder in /usr/share /usr/local/share /etc; do
    [ ! -e "$folder/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" ] || found=yes
done
if [ $found = no ]; then
    echo "skipped: no Vulkan validation layer on this machine (Debian's vulkan-validationlayers has it)"
    exit 77
fi

own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
cat >"$own/vk_layer_settings.txt" <<END
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,info
khronos_validation.log_filename = $own/log
khronos_validation.enable_message_limit = true
khronos_validation.duplicate_message_limit = 5
END
VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LAYER_SETTINGS_PATH="$own/vk_layer_settings.txt" "$@"
if ! grep -q "Khronos Validation Layer Active" "$own/log" 2>/dev/null; then
    echo "validate: the layer was not loaded" >&2
    exit 1
fi
if grep -E '\((ERROR|WARN)|Validation (Error|Warning)|Performance Warning' "$own/log" >"$own/faults"; then
    echo "validate: the layer says of $*:" >&2
    cut -c1-800 "$own/faults" | head -20 >&2
    exit 1
fi
echo "validation layer: silent"
