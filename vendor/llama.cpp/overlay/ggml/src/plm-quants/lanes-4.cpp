#define PLM_LANES 4
#define PLM_NAME plm_quantize_4
#define PLM_PARTS plm_quantize_4_parts
#include "lanes.inc"
