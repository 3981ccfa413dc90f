/* A layer, step by step, and what Python calls. */
#include <time.h>

#include "internal.h"

/* Tiles as even as can be: n_rows over as few as hold them. */
static int n_tiles(const struct midfill_model *model, int n_rows) { return (n_rows + model->kernels->tile_rows - 1) / model->kernels->tile_rows; }
static int tile_start(int tile, int tiles, int n_rows) { return (int)((long)tile * n_rows / tiles); }

/* Quantises rows that this thread is to do; of a single row every thread makes its own. */
static struct levels quantize_rows(const struct pass *pass, int rank, const float *x, long ld, const struct midfill_norm *norm, int n_in) {
  struct midfill_model *model = pass->model;
  struct own *own = &model->own[rank];
  const struct kernels *kernels = model->kernels;
  const float *gamma = norm ? norm->gamma : NULL, *beta = norm ? norm->beta : NULL;
  int n_rows = pass->n_new, level = max_level(n_in), n_pairs = (n_in + 1) / 2;
  if (n_rows == 1) {
    kernels->quantize(x, ld, 1, gamma, beta, model->shape.eps, n_in, level, own->scratch, own->levels, 1, &own->scale);
    return (struct levels){own->levels, &own->scale};
  }
  int tiles = n_tiles(model, n_rows), size = pool_size(model->pool), first = share(n_rows, size, rank), last = share(n_rows, size, rank + 1);
  for (int tile = 0; tile < tiles; tile++) {
    int start = tile_start(tile, tiles, n_rows), end = tile_start(tile + 1, tiles, n_rows), from = larger(start, first), n = smaller(end, last) - from;
    int16_t *levels = model->levels.values + (long)start * 2 * n_pairs + 2 * (from - start);
    if (n > 0) kernels->quantize(x + from * ld, ld, n, gamma, beta, model->shape.eps, n_in, level, own->scratch, levels, end - start, model->levels.scales + from);
  }
  pool_barrier(model->pool);
  return model->levels;
}

/* One panel of outputs for all rows: its weights stay in the cache. */
static void run_panel(const struct pass *pass, const struct linear *linear, int panel, struct levels x, float *out, long ld, int n_valid, enum activation act) {
  struct midfill_model *model = pass->model;
  int n_rows = pass->n_new, tiles = n_tiles(model, n_rows), n_pairs = (linear->n_in + 1) / 2;
  for (int tile = 0; tile < tiles; tile++) {
    int start = tile_start(tile, tiles, n_rows), end = tile_start(tile + 1, tiles, n_rows);
    const int16_t *levels = x.values + (long)start * 2 * n_pairs;
    model->kernels->panel(linear, panel, levels, x.scales + start, end - start, out + start * ld, ld, n_valid, act);
    if (linear->rest) model->kernels->panel(linear->rest, panel, levels, x.scales + start, end - start, out + start * ld, ld, n_valid, ACT_ADD);
  }
}

static void run_linear(const struct pass *pass, int rank, struct counter *counters, const struct linear *linear, struct levels x, float *out, long ld, enum activation act) {
  int from, to;
  while (take(counters, panels(linear->n_out), pool_size(pass->model->pool), rank, &from, &to))
    for (int panel = from; panel < to; panel++)
      run_panel(pass, linear, panel, x, out + panel * PANEL, ld, smaller(PANEL, linear->n_out - panel * PANEL), act);
}

/* Queries to a buffer, keys and values to their places in the cache. */
static void run_c_attn(const struct pass *pass, int rank, struct counter *counters, const struct linear *linear, struct levels x, float *kv) {
  struct midfill_model *model = pass->model;
  int n_q = model->shape.n_embd, n_kv = 2 * model->shape.head_dim, q_panels = panels(n_q), kv_panels = panels(n_kv), from, to;
  while (take(counters, q_panels + model->shape.n_kv_head * kv_panels, pool_size(model->pool), rank, &from, &to))
    for (int panel = from; panel < to; panel++) {
      if (panel < q_panels) {
        run_panel(pass, linear, panel, x, model->queries + panel * PANEL, n_q, smaller(PANEL, n_q - panel * PANEL), ACT_NONE);
        continue;
      }
      int head = (panel - q_panels) / kv_panels, start = (panel - q_panels) % kv_panels * PANEL;
      float *out = kv + head * pass->head_stride + (long)pass->n_cached * n_kv + start;
      run_panel(pass, linear, panel, x, out, n_kv, smaller(PANEL, n_kv - start), ACT_NONE);
    }
}

static void run_layer(const struct pass *pass, int rank, const struct midfill_block *block, struct counter *counters, float *kv) {
  struct midfill_model *model = pass->model;
  int E = model->shape.n_embd, n_inner = model->shape.n_inner, size = pool_size(model->pool);
  struct levels x = quantize_rows(pass, rank, pass->h, E, &block->ln_1, E);
  run_c_attn(pass, rank, counters + STEP_ATTN * size, &block->c_attn, x, kv);
  pool_barrier(model->pool);
  const float *mixed = mix(pass, rank, counters + STEP_ATTEND * size, kv);
  x = quantize_rows(pass, rank, mixed, E, NULL, E);
  run_linear(pass, rank, counters + STEP_PROJ * size, &block->attn_proj, x, pass->h, E, ACT_ADD);
  pool_barrier(model->pool);
  x = quantize_rows(pass, rank, pass->h, E, &block->ln_2, E);
  run_linear(pass, rank, counters + STEP_FC * size, &block->c_fc, x, model->inner, n_inner, (enum activation)model->shape.activation);
  pool_barrier(model->pool);
  x = quantize_rows(pass, rank, model->inner, n_inner, NULL, n_inner);
  run_linear(pass, rank, counters + STEP_MLP * size, &block->mlp_proj, x, pass->h, E, ACT_ADD);
  pool_barrier(model->pool);
}

static void run_layers(void *argument, int rank) {
  const struct pass *pass = argument;
  struct midfill_model *model = pass->model;
  for (int i = 0; i < pass->n_layers; i++)
    run_layer(pass, rank, &model->blocks[pass->first + i], model->counters + (long)i * N_STEPS * pool_size(model->pool), pass->kv + (pass->first + i) * pass->layer_stride);
}

void forget_rows(struct midfill_model *model) {
  free(model->levels.values);
  free(model->levels.scales);
  free(model->queries);
  free(model->mixed);
  free(model->inner);
  model->levels = (struct levels){NULL, NULL};
  model->queries = model->mixed = model->inner = NULL;
  model->n_rows = 0;
}

/* Buffers for so many rows; kept for the next pass. */
static int make_room(struct midfill_model *model, int n_rows) {
  const struct midfill_shape *shape = &model->shape;
  if (n_rows <= model->n_rows) return 1;
  forget_rows(model);
  size_t widest = (size_t)padded(larger(shape->n_embd, shape->n_inner)), rows = (size_t)n_rows;
  model->levels = (struct levels){room(rows * widest * sizeof(int16_t)), room(rows * sizeof(float))};
  model->queries = room(rows * (size_t)shape->n_embd * sizeof(float));
  model->mixed = room(rows * (size_t)shape->n_embd * sizeof(float));
  model->inner = room(rows * (size_t)shape->n_inner * sizeof(float));
  if (!model->levels.values || !model->levels.scales || !model->queries || !model->mixed || !model->inner) {
    forget_rows(model);
    return 0;
  }
  model->n_rows = n_rows;
  return 1;
}

static int make_room_for_partials(struct midfill_model *model, int n_new, int n_cached) {
  long n_floats = (long)attention_tiles(model, n_new) * n_blocks(n_cached + n_new) * PARTIAL_FLOATS(model->shape.head_dim);
  if (!shares_blocks(model, n_new) || n_floats <= model->n_partials) return 1;
  free(model->partials);
  n_floats += n_floats / 2; /* the next token needs more */
  model->partials = room((size_t)n_floats * sizeof(float));
  model->n_partials = model->partials ? n_floats : 0;
  return model->partials != NULL;
}

#define FEW 16 /* rows: a draft and the token before it */

static void reset_counters(struct midfill_model *model, int n_layers) {
  for (int i = 0; i < n_layers * N_STEPS * pool_size(model->pool); i++) atomic_store_explicit(&model->counters[i].n_taken, 0, memory_order_relaxed);
}

int midfill_layers(struct midfill_model *model, float *h, int n_new, float *kv, long layer_stride, long head_stride, int n_cached, int first, int n_layers) {
  struct pass pass = {model, first, n_layers, n_new, n_cached, h, kv, layer_stride, head_stride};
  pool_expect(model->pool, n_new == 1 ? ONE_ROW : n_new <= FEW ? FEW_ROWS : MANY_ROWS, n_new * n_layers);
  if (!make_room(model, n_new) || !make_room_for_partials(model, n_new, n_cached)) return -1;
  reset_counters(model, n_layers);
  pool_run(model->pool, run_layers, &pass);
  return 0;
}

struct product {
  struct pass pass;
  const struct midfill_norm *norm;
  const struct linear *linear;
  const float *x;
  float *out;
};

static void run_product(void *argument, int rank) {
  const struct product *product = argument;
  const struct linear *linear = product->linear;
  struct midfill_model *model = product->pass.model;
  struct levels x = quantize_rows(&product->pass, rank, product->x, linear->n_in, product->norm, linear->n_in);
  run_linear(&product->pass, rank, model->counters, linear, x, product->out, linear->n_out, ACT_NONE);
  if (linear != &model->head) return;
  pool_barrier(model->pool);
  int n_rows = product->pass.n_new, tiles = n_tiles(model, n_rows), n_pairs = (linear->n_in + 1) / 2;
  for (int tile = 0; tile < tiles; tile++) {
    int start = tile_start(tile, tiles, n_rows), end = tile_start(tile + 1, tiles, n_rows);
    for (int row = start; row < end; row++) {
      if (row % pool_size(model->pool) != rank) continue;
      const int16_t *levels = x.values + (long)start * 2 * n_pairs + 2 * (row - start);
      settle(model, levels, 2 * (end - start), x.scales[row], model->own[rank].scratch, product->out + (long)row * linear->n_out);
    }
  }
}

static int multiply(struct midfill_model *model, struct product product) {
  pool_expect(model->pool, HEAD, product.pass.n_new);
  if (!make_room(model, product.pass.n_new)) return -1;
  reset_counters(model, 1);
  pool_run(model->pool, run_product, &product);
  return 0;
}

int midfill_head(struct midfill_model *model, const float *h, int n_rows, float *logits) {
  return multiply(model, (struct product){{.model = model, .n_new = n_rows}, &model->final_norm, &model->head, h, logits});
}

int midfill_linear(struct midfill_model *model, const struct linear *linear, const float *x, int n_rows, float *out) {
  return multiply(model, (struct product){{.model = model, .n_new = n_rows}, NULL, linear, x, out});
}

uint64_t midfill_checksum(const uint8_t *bytes, long n_bytes) {
  uint64_t sums[8] = {1, 2, 3, 4, 5, 6, 7, 8}, words[8];
  for (long at = 0; at < n_bytes; at += (long)sizeof words) {
    long n = n_bytes - at < (long)sizeof words ? n_bytes - at : (long)sizeof words;
    memset(words, 0, sizeof words);
    memcpy(words, bytes + at, (size_t)n);
    for (int i = 0; i < 8; i++) sums[i] = (sums[i] ^ words[i]) * 0x9e3779b97f4a7c15u + (sums[i] >> 29);
  }
  for (int i = 1; i < 8; i++) sums[0] = (sums[0] ^ sums[i]) * 0x9e3779b97f4a7c15u + (sums[0] >> 29);
  return sums[0] ^ (uint64_t)n_bytes;
}

struct reading {
  struct midfill_model *model;
  const int8_t *bytes;
  long n_bytes;
  atomic_llong sum;
};

#define READ_BYTES 32768 /* of which shares are made, as of a panel */

static void read_share(void *argument, int rank) {
  struct reading *reading = argument;
  struct midfill_model *model = reading->model;
  int64_t sums[32] = {0};
  int from, to;
  while (take(model->counters, (int)(reading->n_bytes / READ_BYTES), pool_size(model->pool), rank, &from, &to)) {
    const int64_t *at = (const int64_t *)(reading->bytes + (long)from * READ_BYTES), *end = at + (long)(to - from) * READ_BYTES / 8;
    for (; at < end; at += 32)
      for (int i = 0; i < 32; i++) sums[i] ^= at[i];
  }
  for (int i = 1; i < 32; i++) sums[0] ^= sums[i];
  atomic_fetch_add(&reading->sum, sums[0]); /* so that nothing is optimised away */
}

double midfill_read_speed(struct midfill_model *model, const int8_t *bytes, long n_bytes) {
  struct reading reading = {.model = model, .bytes = bytes, .n_bytes = n_bytes};
  struct timespec start, end;
  pool_expect(model->pool, FOR_ALL, 1);
  reset_counters(model, 1);
  clock_gettime(CLOCK_MONOTONIC, &start);
  pool_run(model->pool, read_share, &reading);
  clock_gettime(CLOCK_MONOTONIC, &end);
  return (double)(n_bytes / READ_BYTES * READ_BYTES) / ((double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec));
}
