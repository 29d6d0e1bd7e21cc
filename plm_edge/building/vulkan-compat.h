// What llama.cpp's Vulkan backend asks of vulkan.hpp and older headers lack, such as Debian 12's (1.3.239):
// VK_EXT_layer_settings, with which it asks validation layers for advice. Laid out as the Vulkan specification
// says; a loader that does not know it passes over it.

#pragma once

#include <vulkan/vulkan_core.h>

#if defined(__cplusplus) && !defined(VK_EXT_layer_settings)

#include <cstdint>
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : int32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char * pLayerName;
    const char * pSettingName;
    LayerSettingTypeEXT type;
    uint32_t valueCount;
    const void * pValues;
};

struct LayerSettingsCreateInfoEXT {
    VkStructureType sType = VkStructureType(1000496000);
    const void * pNext = nullptr;
    uint32_t settingCount;
    const LayerSettingEXT * pSettings;

    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & settings)
        : settingCount(uint32_t(settings.size())), pSettings(settings.data()) {}
};

} // namespace vk

#endif
