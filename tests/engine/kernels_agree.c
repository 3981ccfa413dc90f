/* Every instruction set against the first, bit for bit: random two-layer models, rows in chunks, one and three threads.
 * In C, so that it runs on a machine that is emulated, where there is no torch. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { H = 3, D = 13, E = H * D, N_INNER = 55, V = 101, L = 2, CAPACITY = 200, T = 90 };

static unsigned long long state = 1;

static int draw(int n) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (int)((state >> 33) % (unsigned long long)n);
}

static float *floats(int n, float middle, float reach) {
  float *values = malloc((size_t)n * sizeof *values);
  for (int i = 0; i < n; i++) values[i] = middle + reach * (float)(draw(20001) - 10000) / 10000.0f;
  return values;
}

static struct midfill_norm norm(void) { return (struct midfill_norm){floats(E, 1.0f, 0.2f), floats(E, 0.0f, 0.1f)}; }

static struct linear linear(int n_in, int n_out) {
  int n_padded = (n_out + PANEL - 1) / PANEL * PANEL, n_pairs = (n_in + 1) / 2;
  int8_t *weights = malloc((size_t)n_padded * n_pairs * 2);
  for (int i = 0; i < n_padded * n_pairs * 2; i++) {
    int column = i / (2 * PANEL) % n_pairs * 2 + i % 2;
    weights[i] = (int8_t)(column < n_in ? draw(255) - 127 : 0);
  }
  return (struct linear){weights, floats(n_padded, 0.002f, 0.001f), floats(n_padded, 0.0f, 0.1f), n_in, n_out, NULL};
}

static float *run(struct midfill_model *model, const float *input, int n_kv_head, int n_chunk) {
  long head = CAPACITY * 2 * D, layer = n_kv_head * head;
  float *h = malloc(T * E * sizeof *h), *kv = calloc((size_t)(L * layer), sizeof *kv), *logits = malloc(T * V * sizeof *logits);
  memcpy(h, input, T * E * sizeof *h);
  for (int start = 0; start < T; start += n_chunk) {
    int n = T - start < n_chunk ? T - start : n_chunk;
    if (midfill_layers(model, h + start * E, n, kv, layer, head, start, 0, L)) exit(2);
    if (midfill_head(model, h + start * E, n, logits + start * V)) exit(2);
  }
  free(h);
  free(kv);
  return logits;
}

static int n_different(enum activation activation, int n_kv_head) {
  static const int chunks[] = {T, 1, 7, 33}, threads[] = {1, 3};
  struct midfill_shape shape = {L, E, H, n_kv_head, D, N_INNER, V, (int)activation, 1, 1e-5f, 0.277f};
  struct midfill_block blocks[L];
  int n_fused = (E + PANEL - 1) / PANEL * PANEL + n_kv_head * ((2 * D + PANEL - 1) / PANEL * PANEL), different = 0;
  for (int i = 0; i < L; i++)
    blocks[i] = (struct midfill_block){norm(), norm(), linear(E, n_fused), linear(E, E), linear(E, N_INNER), linear(N_INNER, E)};
  struct midfill_norm final_norm = norm();
  struct linear head = linear(E, V), rest = linear(E, n_fused);
  blocks[0].c_attn.rest = &rest;
  struct midfill_exact exact = {{floats(V * E, 0.0f, 0.3f), 0, -1, STORED_FLOAT32}, 0.003f};
  float *input = floats(T * E, 0.0f, 1.0f), *wanted = NULL;
  char names[64];
  strcpy(names, midfill_variants());
  for (char *name = strtok(names, " "); name; name = strtok(NULL, " "))
    for (int t = 0; t < 2; t++)
      for (int c = 0; c < 4; c++) {
        shape.n_threads = threads[t];
        struct midfill_model *model = midfill_open(&shape, blocks, &final_norm, &head, &exact, name);
        if (!model) exit(3);
        float *got = run(model, input, n_kv_head, chunks[c]);
        midfill_close(model);
        if (!wanted) wanted = got;
        if (!memcmp(wanted, got, T * V * sizeof *got)) continue;
        printf("activation %d, %d key/value heads, %s, %d threads, chunks of %d\n", (int)activation, n_kv_head, name, threads[t], chunks[c]);
        different++;
      }
  return different;
}

int main(void) {
  int different = 0;
  for (enum activation activation = ACT_GELU_TANH; activation <= ACT_RELU; activation++)
    different += n_different(activation, 1) + n_different(activation, H);
  printf("%s: %d differ\n", midfill_variants(), different);
  return different != 0;
}
