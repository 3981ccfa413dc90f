/* What reads weights as they were stored: embeddings, and scores that rounding may have put in the wrong order. */
#include <math.h>
#include <unistd.h>

#include "internal.h"

#define MAX_EXACT 64 /* rows: where so many are as good as the best, none of them matters */
#define SIGMAS 3.0f  /* of the rounding of both scores that are compared */
#define N_LANES 16

static inline float of_half(uint16_t half) {
  uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
  float magnitude;
  memcpy(&magnitude, &bits, sizeof magnitude);
  magnitude *= 0x1p112f; /* the exponents' offsets differ by so much; good for subnormal numbers, too */
  return half & 0x8000 ? -magnitude : magnitude;
}

static inline float of_bfloat(uint16_t bfloat) {
  uint32_t bits = (uint32_t)bfloat << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* NULL where it cannot be read. The buffer has room for n floats. */
static inline const void *row_of(const struct stored *stored, long idx, int n, void *buffer) {
  size_t size = (size_t)n * (stored->kind == STORED_FLOAT32 ? 4 : 2);
  if (stored->rows) return (const char *)stored->rows + (size_t)idx * size;
  return pread(stored->file, buffer, size, stored->offset + idx * (long)size) == (ssize_t)size ? buffer : NULL;
}

static int add_row(const struct stored *stored, long idx, float *out, int n) {
  float buffer[n];
  const void *row = row_of(stored, idx, n, buffer);
  if (!row) return 0;
  for (int k = 0; stored->kind == STORED_FLOAT32 && k < n; k++) out[k] += ((const float *)row)[k];
  for (int k = 0; stored->kind == STORED_FLOAT16 && k < n; k++) out[k] += of_half(((const uint16_t *)row)[k]);
  for (int k = 0; stored->kind == STORED_BFLOAT16 && k < n; k++) out[k] += of_bfloat(((const uint16_t *)row)[k]);
  return 1;
}

int midfill_embed(const struct midfill_embeddings *embeddings, const int64_t *ids, int n_new, int first_position, float *h) {
  int n = embeddings->n_embd;
  for (int row = 0; row < n_new; row++)
    if (ids[row] < 0 || ids[row] >= embeddings->n_vocab || first_position + row >= embeddings->n_positions) return -1;
  memset(h, 0, (size_t)n_new * (size_t)n * sizeof *h);
  for (int row = 0; row < n_new; row++) {
    float *out = h + (long)row * n;
    if (!add_row(&embeddings->tokens, ids[row], out, n) || !add_row(&embeddings->positions, first_position + row, out, n)) return -2;
  }
  return 0;
}

/* In lanes, whose order does not depend on the machine. */
#define DOT(type, of)                                                                                          \
  for (; k + N_LANES <= n; k += N_LANES)                                                                       \
    for (int i = 0; i < N_LANES; i++) sums[i] += x[k + i] * of(((const type *)row)[k + i]);                    \
  for (; k < n; k++) sums[k % N_LANES] += x[k] * of(((const type *)row)[k]);                                   \
  break;

static float exact_score(const struct stored *stored, int idx, const float *x, int n, float rounded) {
  float sums[N_LANES] = {0}, buffer[n];
  const void *row = row_of(stored, idx, n, buffer);
  int k = 0;
  if (!row) return rounded;
  switch (stored->kind) {
    case STORED_FLOAT16: DOT(uint16_t, of_half)
    case STORED_BFLOAT16: DOT(uint16_t, of_bfloat)
    default: DOT(float, )
  }
  for (int half = N_LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) sums[i] += sums[i + half];
  return sums[0];
}

static float best_of(const float *scores, int n) {
  float most[N_LANES], best = -INFINITY;
  for (int i = 0; i < N_LANES; i++) most[i] = -INFINITY;
  for (int v = 0; v + N_LANES <= n; v += N_LANES)
    for (int i = 0; i < N_LANES; i++) most[i] = scores[v + i] > most[i] ? scores[v + i] : most[i];
  for (int v = n / N_LANES * N_LANES; v < n; v++) best = scores[v] > best ? scores[v] : best;
  for (int i = 0; i < N_LANES; i++) best = most[i] > best ? most[i] : best;
  return best;
}

void settle(const struct midfill_model *model, const int16_t *levels, int stride, float scale, float *x, float *scores) {
  int n = model->head.n_in, n_found = 0;
  int64_t squares = 0;
  for (int k = 0; k < n; k++) {
    int level = levels[(long)(k / 2) * stride + k % 2];
    squares += (int64_t)level * level;
    x[k] = (float)level * scale;
  }
  /* A weight is off by at most half its scale, evenly spread: a score by sigma = scale / sqrt(12) * |x|. */
  float margin = 2.0f * SIGMAS / sqrtf(12.0f) * model->exact.widest_scale * scale * sqrtf((float)squares);
  float least = best_of(scores, model->head.n_out) - margin;
  for (int v = 0; v < model->head.n_out && n_found < MAX_EXACT; v++)
    if (scores[v] >= least) {
      scores[v] = exact_score(&model->exact.weights, v, x, n, scores[v]);
      n_found++;
    }
}
