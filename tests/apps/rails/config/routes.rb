Rails.application.routes.draw do
  root "products#index"
  resources :products, only: [:index, :create, :show]
end
