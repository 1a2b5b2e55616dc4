/* C51: the mean of the returns in support, with the softmax of the outputs as their probabilities. */
static float expected(const float *outputs)
{
    float largest = outputs[0], sum = 0.0f, mean = 0.0f;

    for (int k = 1; k < @atoms; k++)
        if (outputs[k] > largest)
            largest = outputs[k];
    for (int k = 0; k < @atoms; k++) {
        const float power = expf(outputs[k] - largest);
        sum += power;
        mean += power * support[k];
    }
    return mean / sum;
}
