class ProductsController < ApplicationController
  def index
    @product = Product.new
    @products = Product.with_attached_photo.order(:id)
    @visits = Rails.cache.increment("visits", 1)
  end

  def show
    @product = Product.find(params[:id])
  end

  def create
    @product = Product.new(params.require(:product).permit(:name, :price, :photo))
    if @product.save
      redirect_to root_path, notice: "#{@product.name} is on the shelf."
    else
      redirect_to root_path, alert: @product.errors.full_messages.to_sentence
    end
  end
end
