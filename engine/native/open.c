/* Choosing an instruction set; opening and closing a model. */
#include "internal.h"

extern const struct kernels kernels_plain;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

/* The n-th best that runs here, NULL behind the last. */
static const struct kernels *variant(int n) {
  const struct kernels *found[4];
  int count = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
    found[count++] = &kernels_avx512_vnni;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &kernels_avx2;
#elif defined(__aarch64__)
  found[count++] = &kernels_neon;
#endif
  found[count++] = &kernels_plain;
  return n < count ? found[n] : NULL;
}

const char *midfill_variants(void) {
  static char names[64];
  names[0] = 0;
  for (int n = 0; variant(n); n++) strcat(strcat(names, n ? " " : ""), variant(n)->name);
  return names;
}

static int open_own(struct midfill_model *model) {
  const struct midfill_shape *shape = &model->shape;
  size_t widest = (size_t)padded(larger(shape->n_embd, shape->n_inner)), D = (size_t)shape->head_dim;
  model->own = calloc((size_t)shape->n_threads, sizeof *model->own);
  for (int i = 0; model->own && i < shape->n_threads; i++) {
    struct own *own = &model->own[i];
    own->scratch = room((size_t)larger((int)widest, model->kernels->tile_rows * padded(shape->n_embd)) * sizeof(float));
    own->levels = room(widest * sizeof(int16_t));
    own->queries = room(D * PANEL * sizeof(float));
    own->scores = room((size_t)larger(KEY_BLOCK, shape->head_dim) * PANEL * sizeof(float));
    own->partial = room(2 * (size_t)PARTIAL_FLOATS(shape->head_dim) * sizeof(float));
    if (!own->scratch || !own->levels || !own->queries || !own->scores || !own->partial) return 0;
  }
  return model->own != NULL;
}

struct midfill_model *midfill_open(const struct midfill_shape *shape, const struct midfill_block *blocks, const struct midfill_norm *final_norm,
                                   const struct linear *head, const struct midfill_exact *exact, const char *name) {
  struct midfill_model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  model->shape = *shape;
  model->final_norm = *final_norm;
  model->head = *head;
  model->exact = *exact;
  for (int n = 0; !model->kernels && variant(n); n++)
    if (!strcmp(variant(n)->name, name)) model->kernels = variant(n);
  size_t n_layers = (size_t)larger(shape->n_layer, 1);
  model->blocks = room(n_layers * sizeof *model->blocks);
  model->counters = room(n_layers * N_STEPS * (size_t)shape->n_threads * sizeof *model->counters);
  if (model->kernels && model->blocks && model->counters && open_own(model)) model->pool = pool_open(shape->n_threads);
  if (!model->pool) {
    midfill_close(model);
    return NULL;
  }
  memcpy(model->blocks, blocks, (size_t)shape->n_layer * sizeof *blocks);
  return model;
}

void midfill_close(struct midfill_model *model) {
  if (model->pool) pool_close(model->pool);
  for (int i = 0; model->own && i < model->shape.n_threads; i++) {
    free(model->own[i].scratch);
    free(model->own[i].levels);
    free(model->own[i].queries);
    free(model->own[i].scores);
    free(model->own[i].partial);
  }
  forget_rows(model);
  free(model->partials);
  free(model->own);
  free(model->counters);
  free(model->blocks);
  free(model);
}
