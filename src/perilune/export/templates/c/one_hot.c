/* Encode a category as one-hot. Return 0, or NaN if the category does not exist. */
static float one_hot(float category, int start, int count, float *x)
{
    float found = 0.0f;

    for (int i = 0; i < count; i++) {
        x[i] = category == (float)(start + i) ? 1.0f : 0.0f;
        found += x[i];
    }
    return 0.0f / found;
}
