#define PLM_LANES 16
#define PLM_NAME plm_quantize_16
#define PLM_PARTS plm_quantize_16_parts
#include "lanes.inc"
