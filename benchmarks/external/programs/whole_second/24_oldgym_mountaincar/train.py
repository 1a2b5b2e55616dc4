import gym
import numpy as np
import torch
from torch import nn
from collections import deque
import random

env = gym.make("MountainCar-v0")
env.seed(1)
np.random.seed(1)
random.seed(1)
torch.manual_seed(1)

STATE_DIM = env.observation_space.shape[0]
N_ACTIONS = env.action_space.n


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.fc = nn.Linear(STATE_DIM, 64)
        self.fc2 = nn.Linear(64, 64)
        self.out = nn.Linear(64, N_ACTIONS)

    def forward(self, x):
        x = torch.relu(self.fc(x))
        x = torch.relu(self.fc2(x))
        return self.out(x)


class DQN(object):
    def __init__(self):
        self.eval_net, self.target_net = Net(), Net()
        self.target_net.load_state_dict(self.eval_net.state_dict())
        self.learn_step_counter = 0
        self.memory = deque(maxlen=20000)
        self.optimizer = torch.optim.Adam(self.eval_net.parameters(), lr=1e-3)
        self.loss_func = nn.MSELoss()
        self.epsilon = 1.0

    def choose_action(self, x):
        x = torch.unsqueeze(torch.FloatTensor(x), 0)
        if np.random.uniform() > self.epsilon:
            return torch.max(self.eval_net(x), 1)[1].item()
        return np.random.randint(0, N_ACTIONS - 1)

    def store_transition(self, s, a, r, s_, done):
        self.memory.append((s, a, r, s_, done))

    def learn(self):
        if self.learn_step_counter % 300 == 0:
            self.target_net.load_state_dict(self.eval_net.state_dict())
        self.learn_step_counter += 1
        batch = random.sample(self.memory, 64)
        b_s = torch.FloatTensor(np.array([b[0] for b in batch]))
        b_a = torch.LongTensor(np.array([[b[1]] for b in batch]))
        b_r = torch.FloatTensor(np.array([[b[2]] for b in batch]))
        b_s_ = torch.FloatTensor(np.array([b[3] for b in batch]))
        b_d = torch.FloatTensor(np.array([[float(b[4])] for b in batch]))

        q_eval = self.eval_net(b_s).gather(1, b_a)
        q_next = self.target_net(b_s_).detach()
        q_target = b_r + 0.99 * b_d * q_next.max(1)[0].view(-1, 1)
        loss = self.loss_func(q_eval, q_target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


dqn = DQN()
print('\nCollecting experience...')
for i_episode in range(1000):
    s = env.reset()
    ep_r = 0
    while True:
        a = dqn.choose_action(s)
        s_, r, done, info = env.step(a)
        dqn.store_transition(s, a, r, s_, done)
        ep_r += r
        if len(dqn.memory) > 1000:
            dqn.learn()
        s = s_
        if done:
            print('Ep: ', i_episode, '| Ep_r: ', ep_r, '| eps: %.3f' % dqn.epsilon)
            break
    dqn.epsilon = max(0.05, dqn.epsilon * 0.995)
